"""Which code a program is made of, so that a reload knows whether only its configuration has changed.

What is foreign to it, an upgrade changes, not a reload.
"""

import hashlib
import sys
from pathlib import Path

from pingora.foreign import is_foreign


def digest_of(file: str) -> str:
    """Give a digest of a file's content; "" if it cannot be read."""
    try:
        return hashlib.blake2b(Path(file).read_bytes()).hexdigest()
    except OSError:
        return ""


def imported_code() -> dict[str, str]:
    """Give the digest of every file that modules of the program were imported from."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {file: digest_of(file) for file in files if file and not is_foreign(file)}


def changed_files(code: dict[str, str]) -> list[str]:
    """Give the files whose content is not what it was."""
    return sorted(file for file, digest in code.items() if digest_of(file) != digest)
