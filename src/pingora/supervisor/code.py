"""Which code a program is made of, so that a reload knows whether only its configuration has changed."""

import hashlib
import sys
import sysconfig
from pathlib import Path

# What an upgrade changes, not a reload: the interpreter's files, installed packages, our own.
FOREIGN = (
    *(path for name in ("stdlib", "platstdlib", "purelib", "platlib") if (path := sysconfig.get_path(name))),
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[2] / "pingora_c"),
)


def digest_of(file: str) -> str:
    """Give a digest of a file's content; "" if it cannot be read."""
    try:
        return hashlib.blake2b(Path(file).read_bytes()).hexdigest()
    except OSError:
        return ""


def imported_code() -> dict[str, str]:
    """Give the digest of every file that modules of the program were imported from."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {file: digest_of(file) for file in files if file and not file.startswith(FOREIGN)}


def changed_files(code: dict[str, str]) -> list[str]:
    """Give the files whose content is not what it was."""
    return sorted(file for file, digest in code.items() if digest_of(file) != digest)
