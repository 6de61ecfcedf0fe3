"""Snapshots: bytes that the agent publishes under a name and that every worker of the instance reads in shared memory.

Each publication is a sealed memory of its own, whose descriptor travels through the supervisor. A reader has a whole
one or the one before, never a half, and keeps what it has while it uses it. A writer that dies blocks nobody.
"""

import fcntl
import mmap
import os
from collections.abc import Callable

NAMES_MOST = 256
NAME_CHARACTERS = 200
BYTES_MOST = 256 * 1024 * 1024
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

snapshots: dict[str, memoryview] = {}
# How a publication leaves this process; None: it is all there is.
send: Callable[[str, int], None] | None = None
is_reader = False  # a worker, which only reads
listeners: dict[str, Callable[[memoryview], None]] = {}  # by name, who hears of each publication


def publish(name: str, data: bytes) -> None:
    """Give `data` to all workers of the instance as `pingora.shared(name)`, in place of what was there.

    For the agent's services. Raises RuntimeError in a worker, ValueError beyond 256 names or 256 MiB.
    """
    if is_reader:
        raise RuntimeError('publish() is for services with where = "agent"; a worker only reads')
    if not name or len(name) > NAME_CHARACTERS or (name not in snapshots and len(snapshots) >= NAMES_MOST):
        raise ValueError(f"publish: expected a name of 1 to {NAME_CHARACTERS} characters, and at most {NAMES_MOST}")
    if len(data) > BYTES_MOST:
        raise ValueError(f"publish: {len(data)} bytes, at most {BYTES_MOST}")
    fd = os.memfd_create(f"pingora-{name}"[:240], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        take(name, fd)
        if send is not None:
            send(name, fd)
    finally:
        os.close(fd)


def shared(name: str) -> memoryview | None:
    """Return what was published last under a name, read-only; None if nothing was. `bytes(…)` copies it."""
    return snapshots.get(name)


def take(name: str, fd: int) -> None:
    """Read a snapshot from now on; the descriptor stays the caller's. Raises ValueError for one that may change."""
    if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS:
        raise ValueError("a snapshot that is not sealed")
    size = os.fstat(fd).st_size
    memory = mmap.mmap(fd, size, prot=mmap.PROT_READ) if size else b""
    snapshots[name] = memoryview(memory)
    if (listener := listeners.get(name)) is not None:
        listener(snapshots[name])
