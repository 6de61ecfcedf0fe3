"""Messages between the processes of an instance: JSON objects and descriptors over a socket that keeps boundaries.

A message is small: who sends much sends a descriptor. Sending never waits; a receiver that lets its queue fill up is
not alive, and sending to it raises OSError.
"""

import array
import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

PROTOCOL = 2  # of the messages between supervisor, generation and workers; they may be of different installations
MESSAGE_BYTES = 65536
FDS_MOST = 250  # the kernel takes 253 at a time
CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


@dataclass
class Message:
    """What came: its kind, its other fields, the descriptors with it, and the process that sent it (0: not asked)."""

    kind: str
    fields: dict[str, Any]
    fds: list[int] = field(default_factory=list)
    pid: int = 0

    def __getitem__(self, name: str) -> Any:
        """Give a field."""
        return self.fields[name]

    def take_text(self) -> str:
        """Read the text that `put_text` made, which came as the first descriptor."""
        with open(self.fds.pop(0), "rb") as file:
            return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()

    def close_fds(self) -> None:
        """Close the descriptors that nobody took."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def put_text(text: str) -> int:
    """Give a descriptor by which a text of any length can be sent; the caller closes it."""
    fd = os.memfd_create("pingora-text")
    with open(os.dup(fd), "wb") as file:
        file.write(text.encode())
    return fd


class Channel:
    """One end. Owns its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    @classmethod
    def pair(cls) -> tuple["Channel", socket.socket]:
        """Make both ends; the first is told by the kernel which process a message comes from."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return cls(ours), theirs

    def fileno(self) -> int:
        """Return the descriptor, for event loops."""
        return self.sock.fileno()

    def send(self, kind: str, fds: Sequence[int] = (), **fields: Any) -> None:
        """Send without waiting. Raises OSError: the other end is gone or does not read."""
        data = json.dumps({"kind": kind, **fields}).encode()
        if len(data) > MESSAGE_BYTES:
            raise OSError(f"a message {kind} of {len(data)} bytes is too long")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def receive(self, wait: bool = True) -> Message | None:
        """Take one message; None at the end. Without `wait` raises BlockingIOError if there is none."""
        try:
            return self._receive(wait)
        except ConnectionResetError:  # told once: it died with messages of ours unread; what it said is still there
            return self._receive(wait)

    def _receive(self, wait: bool) -> Message | None:
        room = socket.CMSG_SPACE(FDS_MOST * 4) + socket.CMSG_SPACE(CREDENTIALS.size)
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        data, ancillary, _, _ = self.sock.recvmsg(MESSAGE_BYTES, room, flags)
        fds, pid = array.array("i"), 0
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
            elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid = CREDENTIALS.unpack(content)[0]
        if not data:
            return None
        fields = json.loads(data)
        return Message(fields.pop("kind"), fields, list(fds), pid)

    def receive_all(self) -> Iterable[Message | None]:
        """Take what is there without waiting; None last if the other end is gone."""
        with contextlib.suppress(BlockingIOError):
            while (message := self.receive(wait=False)) is not None:
                yield message
            yield None

    def close(self) -> None:
        """Close this end; may be called twice."""
        self.sock.close()


async def next_message(channel: Channel, timeout: float | None) -> Message | None:
    """Wait for a message; None at the end of the channel. Raises TimeoutError."""
    import asyncio  # only here: who does not wait needs none of it

    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    fd = channel.fileno()
    loop.add_reader(fd, readable.set)
    try:
        await asyncio.wait_for(readable.wait(), timeout)
    finally:
        loop.remove_reader(fd)
    return channel.receive(wait=False)
