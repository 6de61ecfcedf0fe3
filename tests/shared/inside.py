"""Bring a proxy that runs in the test's process into a certain state, without waiting for time to pass."""

import asyncio
import contextlib
import os
import socket
import threading
from pathlib import Path

RESET = b"\1\0\0\0\0\0\0\0"  # for SO_LINGER: close() sends RST


class Gate:
    """A place where a hook waits: the test sees that it is there, and lets it go on."""

    def __init__(self):
        self.reached = threading.Event()
        self._go = None

    async def wait(self):
        self._loop = asyncio.get_running_loop()
        self._go = asyncio.Event()
        self.reached.set()
        await self._go.wait()

    def await_hook(self):
        assert self.reached.wait(10), "the hook was not called"

    def open(self):
        self._loop.call_soon_threadsafe(self._go.set)


def settle(proxy):
    """Return when the proxy has seen what was sent to it before: it takes events in their order."""
    for _ in range(2):  # what it does because of them follows in the next turn
        assert proxy.exchange(b"?\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def narrow(address):
    """Let the kernel take only a few KiB from the sockets of this process that are connected to or from `address`.

    What is sent there beyond stays with the sender until the other end reads.
    """
    n = 0
    for path in Path("/proc/self/fd").iterdir():
        if not path.is_socket():
            continue  # a copy of it would stay open
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as end:
            if address in (end.getpeername(), end.getsockname()):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                n += 1
    assert n, f"nothing is connected to {address}"


def narrow_client(proxy):
    """Connect a client whose kernel keeps only a few KiB of what it has not read."""
    client = socket.socket()
    client.settimeout(10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((proxy.host, proxy.port))
    return client


def fill(connection):
    """Send until nobody has taken anything for a while."""
    connection.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            connection.sendall(bytes(65536))
