"""The text of a configuration file. Light: the supervisor reads it, so that all processes see the same bytes."""

import codecs
from pathlib import Path

from pingora.usage import ConfigError


def read_text(path: Path) -> str:
    """Read a file. Raises ConfigError."""
    try:
        return path.read_bytes().removeprefix(codecs.BOM_UTF8).decode()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode(errors="replace")) + 1
        raise ConfigError([f"{path}:{line}:{column}: not UTF-8"]) from None
