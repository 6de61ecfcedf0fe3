"""What the supervisor asks of the operating system for itself and its children."""

import contextlib
import ctypes
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pingora.supervisor.options import find_group, find_user
from pingora.usage import UsageError

PR_SET_CHILD_SUBREAPER = 36
MADV_DONTNEED = 4
# A mapping in smaps (proc_pid_smaps(5)): begin, end, and the KiB of its pages that are no longer the file's.
MAPPING = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) r..p \S+ \S+ +\d+ +/.*\n"
    r"(?:[A-Z].*\n)*?Anonymous: +(\d+) kB\n(?:[A-Z].*\n)*?Swap: +(\d+) kB$",
    re.MULTILINE,
)


def adopt_orphans(is_wanted: bool = True) -> None:
    """Become the parent of descendants whose own parent ended: workers are forked by a process that lives shortly."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(is_wanted), 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "cannot adopt processes: prctl(PR_SET_CHILD_SUBREAPER) failed")


def give_memory_back() -> None:
    """Give the system what only the start needed: memory that the C library keeps for later, and pages of programs.

    A process that waits holds most of a library only since loading it looked around in there. Pages that it needs again
    come back from the system's cache as they came first.
    """
    trim_heap()
    libc = ctypes.CDLL(None)
    for start, end in untouched_files():
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)


def trim_heap() -> None:
    """Give the system the memory that the C library keeps for later."""
    with contextlib.suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def untouched_files() -> list[tuple[int, int]]:
    """Give begin and end of private mappings of files that nobody has written to: there a page is as in its file."""
    with open("/proc/self/smaps", encoding="utf-8", errors="surrogateescape") as smaps:
        mappings = MAPPING.findall(smaps.read())
    return [(int(start, 16), int(end, 16)) for start, end, own, swapped in mappings if own == swapped == "0"]


def start_module(name: str, fd: int, rights: Mapping[str, Any] = MappingProxyType({})) -> int:
    """Run a module in a fresh interpreter that gets a descriptor, as its argument too; return its process id.

    `rights` are those of `rights_of`. Raises OSError or SubprocessError.
    """
    # The present directory is a place for modules there only if it is one here.
    has_cwd = not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()])
    options = [] if has_cwd else ["-P"]
    process = subprocess.Popen([sys.executable, *options, "-m", name, str(fd)], pass_fds=[fd], **rights)
    process.returncode = 0  # the supervisor waits for its children itself
    return process.pid


def rights_of(user: str | None, group: str | None) -> dict[str, Any]:
    """Give the arguments of Popen for a child of another user, with the groups of that user. Raises UsageError."""
    if user is None and group is None:
        return {}
    if os.geteuid() != 0:
        raise UsageError("user and group need a supervisor that is root")
    try:
        entry = find_user(user) if user is not None else pwd.getpwuid(os.geteuid())
    except KeyError:
        raise UsageError(f"--user {user!r}: there is no such user") from None
    try:
        gid = find_group(group) if group is not None else entry.pw_gid
    except KeyError:
        raise UsageError(f"--group {group!r}: there is no such group") from None
    return {"user": entry.pw_uid, "group": gid, "extra_groups": os.getgrouplist(entry.pw_name, gid)}
