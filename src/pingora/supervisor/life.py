"""A worker from its fork to its end: makes its Serving, says that it is ready, accepts when it may, drains when told.

Its supervisor speaks through the channel; a channel that ends means that the supervisor is gone.
"""

import asyncio
import contextlib
import faulthandler
import functools
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from pingora import snapshots
from pingora.limits import raise_descriptor_limit
from pingora.loop import run
from pingora.observe.collector import resident_bytes
from pingora.observe.output import Output
from pingora.server import Server
from pingora.serving import Serving
from pingora.supervisor.asked import AskedWatchdog
from pingora.supervisor.board import Board
from pingora.supervisor.channel import Channel, Message
from pingora.supervisor.ebb import give_memory_back_at_ebb
from pingora.supervisor.follower import ORDERS, Follower
from pingora.supervisor.slots import Slots
from pingora.supervisor.sockets import take
from pingora_c.stats.counters import Counters

log = logging.getLogger("pingora")

RECYCLE_LOOK_S = 1.0  # between two looks at whether a worker has done enough

# What a terminal or a service manager sends to a whole group of processes is meant for the supervisor. No SIG_IGN:
# programs that hooks start would inherit it.
OF_THE_SUPERVISOR = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def ignore_supervisor_signals() -> None:
    """Do nothing on the signals that are for the supervisor."""
    for number in OF_THE_SUPERVISOR:
        signal.signal(number, lambda number, frame: None)


def be_nobody(channel: Channel) -> None:
    """In a child that a hook forks: do not speak for us, and end on SIGTERM, as multiprocessing wants."""
    channel.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def take_snapshot(message: Message) -> None:
    """Read what the agent has published."""
    try:
        snapshots.take(message["name"], message.fds[0])
    except (ValueError, OSError, IndexError) as error:
        log.warning("cannot read the snapshot %s: %s", message["name"], error)
    finally:
        message.close_fds()


def replace_output(message: Message) -> None:
    """Make descriptors 1 and 2 those that a message brought."""
    for number, fd in zip((1, 2), message.fds, strict=False):
        os.dup2(fd, number)
    message.close_fds()


@dataclass
class Birth:
    """What a worker is given; `number` is its place among the workers, `options` are of Options.for_workers."""

    number: int
    channel: Channel
    board: Board
    counters: Counters
    sockets: dict[str, list[socket.socket]]
    options: dict[str, Any]

    @property
    def drain_s(self) -> float:
        """The seconds that it has if the supervisor dies."""
        return float(self.options["drain"])


def live(channel: Channel, server: Server, main: Callable[[Output], Coroutine[Any, Any, None]]) -> None:
    """Be a process of an instance: introduce it to the supervisor and run `main` on a loop until it ends."""
    channel.send("hello")
    os.register_at_fork(after_in_child=functools.partial(be_nobody, channel))
    ignore_supervisor_signals()
    faulthandler.enable(2)  # a crash, and the SIGABRT for a stuck worker, say where
    output = Output(server.log_level)
    try:
        run(server.choose_loop(), main(output))
    finally:
        output.close()


class Life:
    """A worker in its own process."""

    def __init__(self, server: Server, birth: Birth) -> None:
        self._server = server
        self._birth = birth
        self._channel = birth.channel
        self._orders: asyncio.Queue[Message | None] = asyncio.Queue()
        self._is_ready = False
        self._was_told_to_stop = False

    def run(self) -> None:
        """Live; return when nothing is left to do."""
        snapshots.is_reader = True
        raise_descriptor_limit(self._birth.options["descriptors"])
        live(self._channel, self._server, self._main)

    async def _main(self, output: Output) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._on_message)
        serving = Serving(self._server, loop, output.stdout, self._birth.counters, AskedWatchdog)
        serving.own_collector()
        slots = Slots(serving, self._birth.sockets, self._birth.board, self._birth.number)
        beside = [
            loop.create_task(work)
            for work in (
                output.report_losses(),
                self._ask_for_recycling(serving),
                give_memory_back_at_ebb(serving),
            )
        ]
        try:
            self._on_message()  # what was published before
            await serving.start()
            self._is_ready = True
            self._channel.send("ready")
            await self._obey(serving, slots, output)
        finally:
            for task in beside:
                task.cancel()
            slots.stop()
            serving.close()

    def _on_message(self) -> None:
        for message in self._channel.receive_all():
            if message is None:
                if not self._is_ready:
                    os._exit(0)  # the supervisor died while worker_start ran: nothing was accepted
                asyncio.get_running_loop().remove_reader(self._channel.fileno())
            if message is not None and message.kind == "snapshot":
                take_snapshot(message)
            else:
                self._orders.put_nowait(message)

    async def _ask_for_recycling(self, serving: Serving) -> None:
        """Ask for a replacement once this worker has served, or grown, as much as it may."""
        options = self._birth.options  # which a reload may change
        spread = 1.0 + os.urandom(1)[0] / 2560  # not all workers at the same time
        while True:
            await asyncio.sleep(RECYCLE_LOOK_S)
            most_requests, most_bytes = options["max_requests"] * spread, options["max_memory"]
            n_requests, n_bytes = serving.activity()[0], resident_bytes() if most_bytes else 0
            if most_requests and n_requests >= most_requests:
                why = f"has served {n_requests} requests"
            elif most_bytes and n_bytes >= most_bytes:
                why = f"has grown to {n_bytes // (1024 * 1024)} MiB"
            else:
                continue
            with contextlib.suppress(OSError):  # the supervisor is gone
                self._channel.send("recycle", why=why)
            return

    async def _obey(self, serving: Serving, slots: Slots, output: Output) -> None:
        ending: asyncio.Task[None] | None = None
        follower = None
        if (reloader := self._server.reloader(serving)) is not None:
            follower = Follower(reloader, slots, self._birth.sockets, self._channel)
        while ending is None or not ending.done():
            order = await self._next_order(ending)
            if order is None:
                if ending is None:
                    log.warning("the supervisor is gone, ending")
                    slots.stop()
                    ending = asyncio.create_task(serving.retire(self._birth.drain_s))
            elif order.kind == "accept" and ending is None:
                slots.start()
            elif order.kind == "slots" and ending is None:
                take(self._birth.sockets, order)
                slots.add(self._birth.sockets)
            elif order.kind in ORDERS and follower is not None and ending is None:
                follower.obey(order)
            elif order.kind == "options":
                self._birth.options.update(order["options"])
            elif order.kind == "reopen":
                replace_output(order)
                output.reopen()
            elif order.kind in ("retire", "stop"):
                slots.stop()
                if follower is not None:
                    follower.cancel()
                serving.stop_accepting()
                with contextlib.suppress(OSError):  # the supervisor is gone, which the next order says
                    self._channel.send("refuses")
                ending = await self._end(serving, order, ending)
            else:
                order.close_fds()

    async def _next_order(self, ending: asyncio.Task[None] | None) -> Message | None:
        """Wait for an order, or for the end; then an order without a meaning stands for it."""
        waiting = asyncio.ensure_future(self._orders.get())
        await asyncio.wait({waiting, *filter(None, [ending])}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        return Message("ended", {})

    async def _end(self, serving: Serving, order: Message, before: asyncio.Task[None] | None) -> asyncio.Task[None]:
        """Begin to end, or end faster than was begun: a second stop cuts."""
        seconds = float(order["seconds"])
        if before is not None:
            if serving.is_closed:
                return before  # nothing is left to cut, and worker_stop runs once
            before.cancel()
            await asyncio.wait({before})
            if order.kind == "stop" and self._was_told_to_stop:
                seconds = 0.0
        self._was_told_to_stop = order.kind == "stop"
        way: Coroutine[Any, Any, None] = serving.drain(seconds) if order.kind == "stop" else serving.retire(seconds)
        return asyncio.create_task(way)
