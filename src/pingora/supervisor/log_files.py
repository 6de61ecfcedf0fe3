"""Files in place of stdout (access log, print) and stderr (error log). Workers get descriptors of them.

Only the supervisor opens them: workers may lack the right to, and after one signal nobody holds a rotated file.
"""

import os
from collections.abc import Mapping

from pingora.supervisor import Refused


def open_log_files(paths: Mapping[int, str]) -> None:
    """Make descriptors (1, 2) write to the ends of files. Raises Refused, and then none has changed."""
    opened: dict[int, int] = {}
    try:
        for number, path in paths.items():
            try:
                opened[number] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            except OSError as error:
                raise Refused(f"cannot open the log file {path}: {error.strerror}") from None
        for number, fd in opened.items():
            os.dup2(fd, number)
    finally:
        for fd in opened.values():
            os.close(fd)
