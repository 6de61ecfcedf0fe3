"""A generation as its supervisor sees it: a process that loaded one version of the program, and its workers."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pingora.supervisor import Refused, describe
from pingora.supervisor.board import AGENT, Board
from pingora.supervisor.channel import PROTOCOL, Channel, Message, next_message
from pingora.supervisor.kept_rings import KeptRings
from pingora.supervisor.sockets import SlotSockets, send_sockets
from pingora.supervisor.statistics import Statistics
from pingora.supervisor.worker import Worker

REFUSE_S = 1.0  # that a worker may take to accept nobody any more
READY_S = 60.0  # that the workers of a reload may take to become ready


async def all_ready(workers: Sequence[Worker]) -> None:
    """Wait until workers are ready. Raises Refused."""
    if not workers:
        return
    done, waiting = await asyncio.wait(
        [worker.ready for worker in workers], timeout=READY_S, return_when=asyncio.FIRST_EXCEPTION
    )
    for future in done:
        if (error := future.exception()) is not None:
            raise error
    if waiting:
        raise Refused(f"{len(waiting)} of {len(workers)} workers were not ready after {READY_S:.0f} s")


OnMessage = Callable[["Generation", Worker, Message | None], None]


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Refuse if the process that loaded the program has ended or does not read; a time that is over passes."""
    try:
        yield
    except TimeoutError:  # an OSError too
        raise
    except OSError as error:
        raise Refused(f"the process that loaded the program does not answer: {error}") from None


class Generation:
    """One generation. `on_message` gets what its workers say; `workers` are those that have not ended."""

    def __init__(
        self,
        number: int,
        channel: Channel,
        pid: int,
        on_message: OnMessage,
    ) -> None:
        self.number = number
        self.pid = pid
        self.is_gone = False  # the zygote has ended
        self.is_retired = False
        self.is_loaded = False
        self.has_agent = False  # it has services for an agent
        self.addresses: list[str] = []
        self.workers: list[Worker] = []
        self._channel = channel
        self._on_message = on_message
        self._statistics: Statistics | None = None
        self.metrics: str | None = None  # where the program wants its metrics shown

    async def loaded(self, rings: KeptRings) -> None:
        """Wait until the program is loaded, and take the addresses it listens on and its rings. Raises Refused."""
        message = await next_message(self._channel, None)
        if message is None:
            raise Refused("the process that loads the program ended before it was done; the error log may say why")
        if message.kind != "loaded":
            raise Refused(message["text"])
        if message["protocol"] != PROTOCOL:
            raise Refused(
                f"version {message['version']} is installed now, which this supervisor cannot start: "
                "use `pingora upgrade`"
            )
        self.addresses = message["addresses"]
        self.has_agent = message["has_agent"]
        self.metrics = message.fields.get("metrics")
        rings.take(message)
        self.is_loaded = True

    @property
    def servers(self) -> list[Worker]:
        """The workers that serve clients: all but the agent."""
        return [worker for worker in self.workers if worker.number != AGENT]

    @property
    def followers(self) -> list[Worker]:
        """The workers that what changes is for: those that serve clients and are to go on."""
        return [worker for worker in self.servers if not worker.is_leaving]

    def equip(
        self,
        board: Board,
        statistics: Sequence[Statistics],
        rings: KeptRings,
        sockets: SlotSockets,
        options: dict[str, Any],
    ) -> None:
        """Give it what its workers inherit; its processes count in the first of `statistics`. Raises Refused."""
        self._statistics = statistics[0]
        with answering():
            self._channel.send("board", [board.fd, *(one.fd for one in statistics)], options=options)
            rings.send(self._channel)
            sockets.send(self._channel)

    def send_probes(self, probes: SlotSockets, roles: dict[str, str]) -> None:
        """Give it the sockets of its agent, by what they are for, instead of those before. Raises Refused."""
        with answering():
            self._channel.send("roles", roles=roles)
            probes.send(self._channel, kind="probes")

    async def check(self, file: str, fd: int, timeout: float) -> Message:
        """Let it build the configuration that `fd` has, aside. Raises Refused."""
        try:
            with answering():
                self._channel.send("check", [fd], file=file)
                answer = await next_message(self._channel, timeout)
        except TimeoutError:
            self.kill_zygote()  # what it says later would be taken for another answer
            raise Refused(f"the configuration was not built after {timeout:.0f} s") from None
        if answer is None:
            raise Refused("the process that loaded the program ended while it built the configuration")
        return answer

    def send_sockets(self, sockets: SlotSockets, keys: list[str]) -> None:
        """Give new sockets to all its processes. Raises Refused."""
        with answering():
            sockets.send(self._channel, keys)
        for worker in self.followers:
            with contextlib.suppress(OSError):  # it is dead or stuck, which shows elsewhere
                sockets.send(worker.channel, keys)

    def add_slots(self, new: Sequence[tuple[str, socket.socket]]) -> None:
        """Give more sockets of the addresses that are served to all its processes. Raises Refused."""
        with answering():
            send_sockets(self._channel, new, "sockets")
        for worker in self.followers:
            with contextlib.suppress(OSError):  # it is dead or stuck, which shows elsewhere
                send_sockets(worker.channel, new, "slots")

    def send_options(self, options: dict[str, Any]) -> None:
        """Give other options to all its processes."""
        with contextlib.suppress(OSError):  # it has ended, and is replaced
            self._channel.send("options", options=options)
        for worker in self.servers:
            worker.send("options", options=options)

    async def commit(self, timeout: float) -> None:
        """Let all its processes serve what they prepared; wait until the workers say so, not longer than that."""
        with contextlib.suppress(OSError):  # it has ended, and is replaced
            self._channel.send("commit")
        if answers := [worker.commit() for worker in self.followers]:
            await asyncio.wait(answers, timeout=timeout)

    def drop(self, keys: list[str]) -> None:
        """Let all its processes forget what they prepared, and the sockets that came for it."""
        with contextlib.suppress(OSError):  # it has ended
            self._channel.send("drop", keys=keys)
        for worker in self.followers:
            worker.send("drop", keys=keys)

    def fork(self, number: int) -> Worker:
        """Start a worker at a place; it says itself whether it succeeds."""
        channel, theirs = Channel.pair()
        worker = Worker(number, channel, lambda worker, message: self._on_message(self, worker, message))
        assert self._statistics is not None
        worker.block = self._statistics.allot(number, self.number)
        worker.base = self._statistics.counters_of(worker.block)
        self.workers.append(worker)
        with theirs, contextlib.suppress(OSError):  # then the other end closes, and the worker has ended
            self._channel.send("fork", [theirs.fileno()], number=number, block=worker.block)
        return worker

    def accept(self) -> None:
        """Let all its workers accept."""
        for worker in self.workers:
            worker.accept()

    def retire(self, seconds: float) -> None:
        """Let its workers serve what is connected for up to `seconds`; nothing is forked any more."""
        self.is_retired = True
        self.hang_up()
        for worker in self.workers:
            worker.retire(seconds)

    def reopen_logs(self) -> None:
        """Let all its processes write to what descriptors 1 and 2 are here."""
        with contextlib.suppress(OSError):  # it has ended
            self._channel.send("reopen", [1, 2])
        for worker in self.workers:
            worker.send("reopen", (1, 2))

    async def refuses(self) -> None:
        """Wait until its workers accept nobody any more; not longer than it takes one that can answer."""
        if waiting := [worker.refuses for worker in self.workers]:
            await asyncio.wait(waiting, timeout=REFUSE_S)

    def stop(self, seconds: float) -> None:
        """Let its workers end, requests within `seconds`."""
        self.is_retired = True
        self.hang_up()
        if not self.is_loaded:
            self.kill(signal.SIGKILL)
        for worker in self.workers:
            worker.stop(seconds)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        for worker in self.workers:
            if number == signal.SIGKILL:
                worker.doom()
            else:
                worker.kill(number)
        self.kill_zygote(number)

    def kill_zygote(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process that forks, and to none of its workers."""
        if not self.is_gone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def pids(self) -> set[int]:
        """The process ids of all its processes that are known."""
        return {self.pid, *(worker.pid for worker in self.workers)}

    def hang_up(self) -> None:
        """End the channel, by which the zygote ends."""
        with contextlib.suppress(OSError):  # it has ended
            self._channel.sock.shutdown(socket.SHUT_RDWR)

    @property
    def has_ended(self) -> bool:
        """Whether none of its processes is left."""
        return self.is_gone and not self.workers

    def reap(self) -> list[tuple[Worker, int | None]]:
        """Take the workers that have ended out of `workers`; return them with their wait status, if it is known."""
        if not self.is_gone and wait_for(self.pid) is not None:
            self.is_gone = True
            self._channel.close()
        ended: list[tuple[Worker, int | None]] = []
        for worker in list(self.workers):
            worker.read()
            status = wait_for(worker.pid) if worker.pid else None
            if status is not None or (not worker.pid and worker.has_hung_up):
                self.workers.remove(worker)
                worker.hang_up()
                if self._statistics is not None:
                    worker.last = worker.own(self._statistics.counters_of(worker.block))
                    self._statistics.release(worker.block)
                worker.fail(f"a worker {end_of(worker, status)}")
                ended.append((worker, status))
        return ended


def end_of(worker: Worker, status: int | None) -> str:
    """Say how a worker has ended, from its wait status and what it said."""
    if status is None:
        return "could not be started"
    return describe(status) + (f": {worker.why}" if worker.why else "")


def reap_strangers(ours: set[int]) -> None:
    """Wait for adopted orphans: what programs that hooks start leave behind, and as process 1 what anybody does."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid in ours:
                return  # it ended just now, which another SIGCHLD says
            os.waitpid(ended.si_pid, os.WNOHANG)


def wait_for(pid: int) -> int | None:
    """Return the wait status of a child if it has ended, else None."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0  # somebody else waited for it
    return status if ended else None
