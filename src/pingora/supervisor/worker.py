"""A worker as its supervisor sees it."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from pingora.supervisor import Refused
from pingora.supervisor.channel import Channel, Message


class Worker:
    """One worker process, at the place `number`. `on_message` gets what is not about its start, and None at its end."""

    def __init__(self, number: int, channel: Channel, on_message: "Callable[[Worker, Message | None], None]") -> None:
        self.number = number
        self.pid = 0  # until it said hello
        self.is_ready = False
        self.is_serving = False
        self.is_leaving = False  # its generation goes on without it: its place is another's, or gone
        self.did_enough = False  # it asked for another one in its place
        self.why = ""  # what it raised, if that ended it
        self.asked_for = 0  # the sign of life after whose silence it was asked where it is
        self.stuck_since = 0.0
        self.block = 0  # where it counts, and what was counted there before it
        self.base: dict[str, int] = {}
        self.last: dict[str, int] = {}  # what it had counted itself when it ended
        self.started_at = time.monotonic()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refuses: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # it accepts nobody any more
        self._answered: asyncio.Future[list[str]] | None = None  # what it was asked last
        self._is_doomed = False  # to be killed as soon as its process id is known
        self.channel = channel
        self._on_message = on_message
        asyncio.get_running_loop().add_reader(channel.fileno(), self.read)

    def own(self, counted: dict[str, int]) -> dict[str, int]:
        """Give what it counted itself, of all that was counted in its block."""
        return {name: value - self.base.get(name, 0) for name, value in counted.items()}

    def read(self) -> None:
        """Take what the worker has sent."""
        if self.has_hung_up:
            return
        for message in self.channel.receive_all():
            if message is None:
                self.hang_up()
                asyncio.get_running_loop().call_soon(self._on_message, self, None)  # not now: the caller may be reaping
            elif message.kind == "hello":
                self.pid = message.pid
                if self._is_doomed:
                    self.kill(signal.SIGKILL)
            elif message.kind == "ready":
                self.is_ready = True
                set_done(self.ready)
            elif message.kind == "refuses":
                set_done(self.refuses)
            elif message.kind == "failed":
                self.why = message["why"]
            elif message.kind in ("prepared", "committed"):
                self._answer(message.fields.get("problems", []))
            else:
                self._on_message(self, message)

    def send(self, kind: str, fds: tuple[int, ...] = (), **fields: Any) -> None:
        """Give an order. One that cannot be delivered is lost: the worker is dead or stuck, which shows elsewhere."""
        with contextlib.suppress(OSError):
            self.channel.send(kind, fds, **fields)

    def prepare(self, file: str, fd: int, addresses: list[str]) -> "asyncio.Future[list[str]]":
        """Let it prepare a configuration; the problems that it has with it follow. One that dies has none."""
        self.send("prepare", (fd,), file=file, addresses=addresses)
        return self._asked()

    def commit(self) -> "asyncio.Future[list[str]]":
        """Let it serve what it prepared; it says when it does."""
        self.send("commit")
        return self._asked()

    def _asked(self) -> "asyncio.Future[list[str]]":
        self._answered = asyncio.get_running_loop().create_future()
        if self.has_hung_up:
            self._answer([])
        return self._answered

    def _answer(self, problems: list[str]) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(problems)

    def accept(self) -> None:
        """Let it accept clients."""
        self.is_serving = True
        self.send("accept")

    def stop(self, seconds: float) -> None:
        """Let it end: idle connections at once, requests within `seconds`. One that was never ready has neither."""
        if self.is_ready:
            self.send("stop", seconds=seconds)
        else:
            self.doom()

    def retire(self, seconds: float) -> None:
        """Let it serve what is connected, for up to `seconds`."""
        if self.is_ready:
            self.send("retire", seconds=seconds)
        else:
            self.doom()

    def leave(self, seconds: float) -> None:
        """Let it end while its generation goes on, and serve what is connected for up to `seconds`."""
        self.is_leaving = True
        self.is_serving = False
        self.retire(seconds)
        self._answer([])  # a reload goes on without it

    def doom(self) -> None:
        """Kill it now, or once it has said who it is."""
        self._is_doomed = True
        self.kill(signal.SIGKILL)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal. It is still our child, so its process id means nobody else."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def fail(self, why: str) -> None:
        """Tell who waits for it to become ready that it will not."""
        if not self.ready.done():
            self.ready.set_exception(Refused(why))
            self.ready.exception()  # nobody may be waiting
        set_done(self.refuses)
        self._answer([])

    @property
    def has_hung_up(self) -> bool:
        """Whether the channel is closed."""
        return self.channel.fileno() < 0

    def hang_up(self) -> None:
        """Close the channel."""
        if not self.has_hung_up:
            asyncio.get_running_loop().remove_reader(self.channel.fileno())
            self.channel.close()


def set_done(future: "asyncio.Future[None]") -> None:
    """Set a result where nobody did."""
    if not future.done():
        future.set_result(None)
