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
        self.stuck_since = 0.0
        self.started_at = time.monotonic()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refuses: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # it accepts nobody any more
        self._is_doomed = False  # to be killed as soon as its process id is known
        self._channel = channel
        self._on_message = on_message
        asyncio.get_running_loop().add_reader(channel.fileno(), self.read)

    def read(self) -> None:
        """Take what the worker has sent."""
        if self.has_hung_up:
            return
        for message in self._channel.receive_all():
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
            else:
                self._on_message(self, message)

    def send(self, kind: str, fds: tuple[int, ...] = (), **fields: Any) -> None:
        """Give an order. One that cannot be delivered is lost: the worker is dead or stuck, which shows elsewhere."""
        with contextlib.suppress(OSError):
            self._channel.send(kind, fds, **fields)

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

    @property
    def has_hung_up(self) -> bool:
        """Whether the channel is closed."""
        return self._channel.fileno() < 0

    def hang_up(self) -> None:
        """Close the channel."""
        if not self.has_hung_up:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.close()


def set_done(future: "asyncio.Future[None]") -> None:
    """Set a result where nobody did."""
    if not future.done():
        future.set_result(None)
