"""Files in place of stdout (access log, print) and stderr (error log). Workers get descriptors of them.

Only the supervisor opens them: workers may lack the right to, and after one signal nobody holds a rotated file.
"""

import os
from collections.abc import Mapping

from pingora.supervisor import Refused


def open_all(paths: Mapping[int, str]) -> dict[int, int]:
    """Open files, by the descriptor (1, 2) that they are to replace; the caller closes them. Raises Refused."""
    opened: dict[int, int] = {}
    for number, path in paths.items():
        try:
            opened[number] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            close_all(opened)
            raise Refused(f"cannot open the log file {path}: {error.strerror}") from None
    return opened


def close_all(opened: Mapping[int, int]) -> None:
    """Close what `open_all` opened."""
    for fd in opened.values():
        os.close(fd)


def write_to(opened: Mapping[int, int]) -> None:
    """Make descriptors 1 and 2 write to files, and close what was opened."""
    for number, fd in opened.items():
        os.dup2(fd, number)
    close_all(opened)


def open_log_files(paths: Mapping[int, str]) -> None:
    """Make descriptors (1, 2) write to the ends of files. Raises Refused, and then none has changed."""
    write_to(open_all(paths))
