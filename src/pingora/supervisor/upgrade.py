"""Upgrade: a new program, started as a child of the running supervisor, takes over its listening sockets.

    old: start the program ──► new: hello
    old: the sockets, inherit ──► new: loads, its workers become ready, ready        (or refused: the old one goes on)
    old: lets go of the control socket, go ──► new: takes it, accepts, serving
    old: its workers retire; if the new one dies within PROBATION_S, it starts workers again
    new, when it is told to stop: stop ──► old: its workers have the same time

Whatever fails before `serving` leaves the old one as it was. The channel stays until the old one ends, and is passed on
in the next upgrade: whoever serves has one to each supervisor whose workers still drain (`elders`).
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pingora.supervisor import Refused
from pingora.supervisor.channel import Channel, Message, next_message
from pingora.supervisor.predecessor import VARIABLE
from pingora.supervisor.process_one import VARIABLE as PROCESS_ONE
from pingora.supervisor.process_one import ProcessOne

if TYPE_CHECKING:
    from pingora.supervisor.instance import Supervisor

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

    def __init__(self, command: list[str], environment: Mapping[str, str], process_one: ProcessOne | None) -> None:
        self._channel, theirs = Channel.pair()
        with theirs:
            fd = theirs.fileno()
            given = {**os.environ, **environment, VARIABLE: str(fd)}
            fds = [fd]
            if process_one is not None:
                given[PROCESS_ONE] = process_one.variable
                fds.append(process_one.fd)
            try:
                process = subprocess.Popen(command, pass_fds=fds, env=given)
            except OSError as error:
                self._channel.close()
                raise Refused(f"cannot start {command[0]}: {error.strerror}") from None
        process.returncode = 0  # the supervisor waits for its children itself
        self.pid = process.pid
        self.has_ended = False
        self.statistics: list[int] = []  # where it counts: a descriptor, once it is ready
        # Whether its end, once it serves, is in order: it was told to, or has a successor of its own.
        self._is_in_order: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

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

    async def prepare(self, ours: "Supervisor") -> None:
        """Give it what `ours` holds for all supervisors of the instance; wait until it is ready. Raises Refused."""
        await self.expect("hello")
        fds = [ours.tickets, *(one.fd for one in ours.statistics)]
        try:
            ours.sockets.send(self._channel)
            ours.ports.sockets.send(self._channel, kind="probes")
            ours.rings.send(self._channel)
            self._channel.send("elders", ours.handover.elders.fds)
            self._channel.send("inherit", fds, n_workers=ours.options.workers if ours.scaling.is_by_hand else None)
        except OSError as error:
            raise Refused(f"the new program does not answer: {error}") from None
        self.statistics = (await self.expect("ready")).fds

    async def go(self, on_stop: Callable[[float], None]) -> None:
        """Let it serve. Raises Refused if it does not. `on_stop` is called when it wants us to stop within seconds."""
        with contextlib.suppress(OSError):  # it is gone, which shows next
            self._channel.send("go")
        await self.expect("serving")
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._read, on_stop)

    def _read(self, on_stop: Callable[[float], None]) -> None:
        for message in self._channel.receive_all():
            if not self._is_in_order.done():
                self._is_in_order.set_result(message is not None)
            if message is None:
                self.close()
            elif message.kind == "stop":
                on_stop(message["seconds"])

    async def survives(self) -> bool:
        """Say whether it lives through its first seconds, or ends because it was told to."""
        await asyncio.wait([self._is_in_order], timeout=PROBATION_S)
        return self._is_in_order.result() if self._is_in_order.done() else not self.has_ended

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, by default the end; its own children end with it."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        """Close the channel; may be called twice."""
        if (fd := self._channel.fileno()) >= 0:
            asyncio.get_running_loop().remove_reader(fd)
            self._channel.close()
