"""What the supervisor asks of the operating system for itself and its children."""

import contextlib
import ctypes
import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pingora.supervisor.options import find_group, find_user
from pingora.usage import UsageError

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans(is_wanted: bool = True) -> None:
    """Become the parent of descendants whose own parent ended: workers are forked by a process that lives shortly."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(is_wanted), 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "cannot adopt processes: prctl(PR_SET_CHILD_SUBREAPER) failed")


def give_memory_back() -> None:
    """Give the system what the C library keeps for later: after a start, much of it is never used again."""
    with contextlib.suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


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
