"""Upgrade: a new program, started as a child of the running supervisor, takes over its listening sockets.

    old: start the program ──► new: hello
    old: the sockets, inherit ──► new: loads, its workers become ready, ready        (or refused: the old one goes on)
    old: lets go of the control socket, go ──► new: takes it, accepts, serving
    old: its workers retire; if the new one dies within PROBATION_S, it starts workers again

Whatever fails before `serving` leaves the old one as it was.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pingora.supervisor import Refused
from pingora.supervisor.channel import Channel, Message, next_message
from pingora.supervisor.sockets import SlotSockets, take

VARIABLE = "PINGORA_UPGRADE"  # names the descriptor of the new program's channel
START_S = 180.0  # that the new program may take until it is ready
PROBATION_S = 5.0  # that it must live before the old one lets go of the sockets


def command_line(program: str | None) -> list[str]:
    """Give the command of the new program: our arguments, run by `program` (a pingora, or an interpreter)."""
    ours = [sys.executable, "-m", "pingora"]
    if program is not None:
        ours = [program, "-m", "pingora"] if Path(program).name.startswith("python") else [program]
    return [*ours, *sys.argv[1:]]


class Successor:
    """The new program as the old supervisor sees it."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._channel, theirs = Channel.pair()
        with theirs:
            fd = theirs.fileno()
            try:
                process = subprocess.Popen(command, pass_fds=[fd], env={**os.environ, **environment, VARIABLE: str(fd)})
            except OSError as error:
                self._channel.close()
                raise Refused(f"cannot start {command[0]}: {error.strerror}") from None
        process.returncode = 0  # the supervisor waits for its children itself
        self.pid = process.pid
        self.has_ended = False
        self.statistics: list[int] = []  # where it counts: a descriptor, once it is ready

    async def expect(self, kind: str) -> Message:
        """Wait until it says `kind`. Raises Refused if it says or does something else."""
        try:
            message = await next_message(self._channel, START_S)
        except TimeoutError:
            raise Refused(f"the new program did not say {kind} within {START_S:.0f} s") from None
        if message is None:
            raise Refused("the new program ended before it could take over; its error log may say why")
        if message.kind != kind:
            raise Refused(message.fields.get("text", f"the new program said {message.kind} instead of {kind}"))
        return message

    async def prepare(
        self, sockets: SlotSockets, probes: SlotSockets, fds: Sequence[int], stays: bool, n_workers: int | None
    ) -> None:
        """Give it the sockets, those of the agent, the TicketStore and the Statistics; wait until it is ready.

        `stays`, `n_workers`: see Predecessor. Raises Refused.
        """
        await self.expect("hello")
        try:
            sockets.send(self._channel)
            probes.send(self._channel, kind="probes")
            self._channel.send("inherit", fds, stays=stays, n_workers=n_workers)
        except OSError as error:
            raise Refused(f"the new program does not answer: {error}") from None
        self.statistics = (await self.expect("ready")).fds

    async def go(self) -> None:
        """Let it serve. Raises Refused if it does not."""
        with contextlib.suppress(OSError):  # it is gone, which shows next
            self._channel.send("go")
        await self.expect("serving")

    async def survives(self) -> bool:
        """Say whether it lives through its first seconds, or ends because it was told to."""
        try:
            return await next_message(self._channel, PROBATION_S) is not None
        except TimeoutError:
            return True

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, by default the end; its own children end with it."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class Predecessor:
    """The old supervisor as the new program sees it. `stays`: it ends only after us, process 1 is among its parents."""

    def __init__(self, fd: int) -> None:
        self.stays = False
        self.n_workers: int | None = None  # that an operator has asked for, in place of what the file says
        self.tickets: int | None = None  # descriptor of the TicketStore; an older supervisor has none
        self.statistics: list[int] = []  # descriptors of what the old one counts, and those before it
        self._channel = Channel(socket.socket(fileno=fd))

    @classmethod
    def from_environment(cls) -> "Predecessor | None":
        """Take the channel that the environment names; None if this start is no upgrade."""
        fd = os.environ.pop(VARIABLE, "")
        return cls(int(fd)) if fd else None

    def inherit(self) -> tuple[dict[str, list[socket.socket]], dict[str, list[socket.socket]]]:
        """Take the sockets, those of health probes apart, and the TicketStore."""
        self._channel.send("hello")
        sockets: dict[str, list[socket.socket]] = {}
        probes: dict[str, list[socket.socket]] = {}
        while (message := self._channel.receive()) is not None:
            if message.kind == "inherit":
                self.stays = message["stays"]
                self.n_workers = message.fields.get("n_workers")
                self.tickets = message.fds[0] if message.fds else None
                self.statistics = message.fds[1:]
                return sockets, probes
            take(probes if message.kind == "probes" else sockets, message)
        raise Refused("the old supervisor ended in the middle of an upgrade")

    async def ready(self, statistics: int) -> None:
        """Say that everything is ready, and wait until it may begin. Raises Refused: it may not."""
        self._channel.send("ready", [statistics])
        if await next_message(self._channel, None) is None:
            raise Refused("the old supervisor gave the upgrade up")

    def serving(self) -> None:
        """Say that we serve."""
        with contextlib.suppress(OSError):  # the old one is gone: so be it
            self._channel.send("serving")

    def close_at_end(self) -> None:
        """Close the channel when the old one does: from then on it does not mind what becomes of us."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            for message in self._channel.receive_all():
                if message is None:
                    loop.remove_reader(self._channel.fileno())
                    self._channel.close()

        loop.add_reader(self._channel.fileno(), read)

    def leaving(self) -> None:
        """Say that we were told to stop, or to hand over: our end is not one to be made good."""
        with contextlib.suppress(OSError):  # the old one is gone: so be it
            self._channel.send("leaving")

    def close(self) -> None:
        """Close the channel, in a child that is no supervisor."""
        self._channel.close()

    def refuse(self, text: str) -> None:
        """Say why we do not."""
        with contextlib.suppress(OSError):
            self._channel.send("refused", text=text)
