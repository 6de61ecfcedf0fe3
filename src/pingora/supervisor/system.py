"""What the supervisor asks of the operating system for itself and its children."""

import ctypes
import resource

PR_SET_CHILD_SUBREAPER = 36
DESCRIPTORS_MOST = 1 << 20  # where the system has no limit


def adopt_orphans(is_wanted: bool = True) -> None:
    """Become the parent of descendants whose own parent ended: workers are forked by a process that lives shortly."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(is_wanted), 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "cannot adopt processes: prctl(PR_SET_CHILD_SUBREAPER) failed")


def raise_descriptor_limit() -> None:
    """Allow this process and its children as many open descriptors as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
