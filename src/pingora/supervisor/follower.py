"""A worker's part in a reload in place: it prepares what the supervisor sends, and commits or drops it."""

import asyncio
import socket
from typing import TYPE_CHECKING

from pingora.supervisor.channel import Channel, Message
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.slots import Slots
from pingora.supervisor.sockets import keys_of, take
from pingora.tls import files

if TYPE_CHECKING:
    from pingora.config.reloader import Reloader

ORDERS = ("sockets", "prepare", "commit", "drop")
PROBLEMS_MOST = 50  # that fit into a message
PROBLEM_CHARS = 500


def shortened(problems: list[str]) -> list[str]:
    """Make problems fit into a message."""
    left = len(problems) - PROBLEMS_MOST
    more = [f"… and {left} more"] if left > 0 else []
    return [problem[:PROBLEM_CHARS] for problem in problems[:PROBLEMS_MOST]] + more


class Follower:
    """Follows the configuration. `sockets` are the worker's, by their keys, and change with it."""

    def __init__(
        self,
        reloader: "Reloader",
        slots: Slots,
        sockets: dict[str, list[socket.socket]],
        channel: Channel,
    ) -> None:
        self._reloader = reloader
        self._slots = slots
        self._sockets = sockets
        self._channel = channel
        self._preparing: asyncio.Task[None] | None = None
        self._keys: list[str] = []  # of what is prepared

    def obey(self, order: Message) -> None:
        """Do what the supervisor says, without waiting for the user's code."""
        if order.kind == "sockets":
            take(self._sockets, order)
        elif order.kind == "prepare":
            self._preparing = asyncio.create_task(self._prepare(order))
        elif order.kind == "commit":
            self._commit()
        else:
            self.cancel()
            self._forget(order["keys"])

    async def _prepare(self, order: Message) -> None:
        addresses: list[str] = order["addresses"]
        self._keys = keys_of(addresses)
        listeners = {address: self._sockets[key] for address, key in zip(addresses, self._keys, strict=True)}
        given = GivenFiles.take(order)
        files.given.set(given.contents)  # in this task, which prepares and ends
        problems = await self._reloader.prepare(order["file"], given.text, listeners)
        self._channel.send("prepared", problems=shortened(problems))

    def _commit(self) -> None:
        try:
            self._reloader.commit()
            self._forget([key for key in self._sockets if key not in self._keys])
            self._slots.update(self._sockets)
        except OSError as error:  # the others serve it already
            self._channel.send("recycle", why=f"cannot take over the configuration: {error}")
        self._channel.send("committed")

    def cancel(self) -> None:
        """Drop what was prepared, or is being prepared."""
        if self._preparing is not None:
            self._preparing.cancel()
        self._reloader.drop()

    def _forget(self, keys: list[str]) -> None:
        for key in keys:
            for sock in self._sockets.pop(key, ()):
                sock.close()
