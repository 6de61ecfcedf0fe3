"""The supervisors before an upgrade whose workers still serve what is connected, as the one that serves now sees them.

Each holds the other end of a channel and ends when its workers have. A channel is passed on with the next upgrade.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from pingora.supervisor import say
from pingora.supervisor.channel import CREDENTIALS, Channel

ELDERS_MOST = 4  # that drain at the same time


class Elders:
    """Their channels, the oldest first. `on_end` is called when one has ended."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._channels: list[Channel] = []

    def __len__(self) -> int:
        """How many there are."""
        return len(self._channels)

    @property
    def fds(self) -> list[int]:
        """The descriptors of their channels, for the supervisor that comes next."""
        return [channel.fileno() for channel in self._channels]

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [pid_of(channel) for channel in self._channels]

    def add(self, channel: Channel) -> None:
        """Look after the youngest one, and let the oldest end if there are too many."""
        self._channels.append(channel)
        asyncio.get_running_loop().add_reader(channel.fileno(), self._read, channel)
        for one in self._channels[: max(len(self._channels) - ELDERS_MOST, 0)]:
            say(f"supervisor {pid_of(one)} still drains and is cut: {ELDERS_MOST} younger ones drain")
            stop(one, 0.0)

    def stop(self, seconds: float) -> None:
        """Let them end; requests have `seconds`."""
        for channel in self._channels:
            stop(channel, seconds)

    def release(self) -> None:
        """Look after none any more."""
        for channel in self._channels:
            asyncio.get_running_loop().remove_reader(channel.fileno())
            channel.close()
        self._channels = []

    def _read(self, channel: Channel) -> None:
        if None in channel.receive_all():
            asyncio.get_running_loop().remove_reader(channel.fileno())
            self._channels.remove(channel)
            channel.close()
            self._on_end()


def stop(channel: Channel, seconds: float) -> None:
    """Tell one to end."""
    with contextlib.suppress(OSError):  # it has
        channel.send("stop", seconds=seconds)


def pid_of(channel: Channel) -> int:
    """Give the process that made a channel."""
    found: int = CREDENTIALS.unpack(channel.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))[0]
    return found
