"""The new program's side of an upgrade; `upgrade` has the other one, and what they say to each other."""

import contextlib
import os
import socket

from pingora.supervisor import Refused
from pingora.supervisor.channel import Channel, next_message
from pingora.supervisor.kept_rings import KeptRings
from pingora.supervisor.sockets import take

VARIABLE = "PINGORA_UPGRADE"  # names the descriptor of the new program's channel


class Predecessor:
    """The old supervisor as the new program sees it. `elders`: channels to those before it that drain, oldest first."""

    def __init__(self, fd: int) -> None:
        self.elders: list[Channel] = []
        self.n_workers: int | None = None  # that an operator has asked for, in place of what the file says
        self.tickets: int | None = None  # descriptor of the TicketStore; an older supervisor has none
        self.statistics: list[int] = []  # descriptors of what the old one counts, and those before it
        self.channel = Channel(socket.socket(fileno=fd))

    @classmethod
    def from_environment(cls) -> "Predecessor | None":
        """Take the channel that the environment names; None if this start is no upgrade."""
        fd = os.environ.pop(VARIABLE, "")
        return cls(int(fd)) if fd else None

    def inherit(self, rings: KeptRings) -> tuple[dict[str, list[socket.socket]], dict[str, list[socket.socket]]]:
        """Take the sockets, those of health probes apart, the TicketStore, and `rings`."""
        self.channel.send("hello")
        sockets: dict[str, list[socket.socket]] = {}
        probes: dict[str, list[socket.socket]] = {}
        while (message := self.channel.receive()) is not None:
            if message.kind == "rings":
                rings.take(message)
            elif message.kind == "elders":
                self.elders = [Channel(socket.socket(fileno=fd)) for fd in message.fds]
            elif message.kind == "inherit":
                self.n_workers = message.fields.get("n_workers")
                self.tickets = message.fds[0] if message.fds else None
                self.statistics = message.fds[1:]
                return sockets, probes
            else:
                take(probes if message.kind == "probes" else sockets, message)
        raise Refused("the old supervisor ended in the middle of an upgrade")

    async def ready(self, statistics: int) -> None:
        """Say that everything is ready, and wait until it may begin. Raises Refused: it may not."""
        self.channel.send("ready", [statistics])
        if await next_message(self.channel, None) is None:
            raise Refused("the old supervisor gave the upgrade up")

    def serving(self) -> None:
        """Say that we serve."""
        with contextlib.suppress(OSError):  # the old one is gone: so be it
            self.channel.send("serving")

    def leaving(self) -> None:
        """Say that we were told to stop, or to hand over: our end is not one to be made good."""
        with contextlib.suppress(OSError):  # the old one is gone: so be it
            self.channel.send("leaving")

    def close(self) -> None:
        """Close the channel, in a child that is no supervisor."""
        self.channel.close()

    def refuse(self, text: str) -> None:
        """Say why we do not."""
        with contextlib.suppress(OSError):
            self.channel.send("refused", text=text)
