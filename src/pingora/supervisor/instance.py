"""The supervisor: starts a generation and keeps its workers running until it is told to stop.

It imports no user code, opens all listening sockets, and does one operation (reload, upgrade) at a time.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pingora.echoes import Echoes
from pingora.program import Program
from pingora.supervisor import SIGNALS, Refused, say
from pingora.supervisor.board import AGENT, Board
from pingora.supervisor.channel import Channel, Message
from pingora.supervisor.control import Command
from pingora.supervisor.daemon import Daemon
from pingora.supervisor.generation import Generation, reap_strangers
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.handover import Handover
from pingora.supervisor.kept_rings import KeptRings
from pingora.supervisor.log_files import open_log_files
from pingora.supervisor.notify import Notifier
from pingora.supervisor.operators import Operators
from pingora.supervisor.options import Options
from pingora.supervisor.places import MARGIN_S, Places
from pingora.supervisor.ports import Ports
from pingora.supervisor.predecessor import Predecessor
from pingora.supervisor.process_one import ProcessOne
from pingora.supervisor.reloads import Reloads
from pingora.supervisor.scaling import Scaling, n_workers_text
from pingora.supervisor.settings import Settings
from pingora.supervisor.sockets import SlotSockets
from pingora.supervisor.statistics import GENERATION, GENERATION_PID, HAS_ENDED, Statistics, drop_absorbed, open_all
from pingora.supervisor.status import describe_instance
from pingora.supervisor.stuck import LOOK_S, StuckWatch
from pingora.supervisor.system import give_memory_back
from pingora.supervisor.upgrade import command_line
from pingora.supervisor.worker import Worker
from pingora.usage import UsageError

ASKING_FOR_THE_END = (signal.SIGTERM, signal.SIGQUIT)  # whose second one cuts
RETIRED_MOST = 4  # generations that drain at the same time


class Supervisor:
    """One instance. `start` gives a process that loads the program: the channel to it and its process id.
    It gets the descriptor of the instance's TicketStore, and what we read for it.

    With a `predecessor` this start is an upgrade. `is_embedded`: the process belongs to a program that called
    `server.run()`, whose other children are not ours to wait for. `given` are the options of the command line, which
    hold instead of those of the program's file.
    """

    def __init__(
        self,
        options: Options,
        start: Callable[[int, GivenFiles], tuple[Channel, int]],
        predecessor: Predecessor | None = None,
        is_embedded: bool = False,
        program: Program | None = None,
        given: Mapping[str, Any] = MappingProxyType({}),
        process_one: ProcessOne | None = None,
    ) -> None:
        self.options = options
        self.program = program
        self.given = given
        self.command_line = command_line  # of the program of an upgrade
        self.daemon: Daemon | None = None  # whom to tell that we serve
        self.started_at = time.time()
        self._start_process = start
        self.reloads = Reloads(self)
        self.scaling = Scaling(self)
        self.settings = Settings(self)
        self.handover = Handover(self, predecessor, process_one)
        self.is_embedded = is_embedded
        self.notifier = Notifier()
        self.operators = Operators(options, self._commands(), is_in_container=process_one is not None)
        self.tickets = os.memfd_create("pingora-tickets", os.MFD_CLOEXEC)  # a TicketStore for all generations
        self.board = Board.create()
        self.board.n_workers = options.workers
        self.sockets = SlotSockets(options.workers)
        self.ports = Ports()
        self.rings = KeptRings()
        self.statistics = [Statistics.create()]  # ours, then those of supervisors before us that still matter
        self.generation: Generation | None = None
        self.others: list[Generation] = []  # that load, drain, or were discarded, until their processes are reaped
        self._n_generations = 0
        self.places = Places(self)
        self.busy = asyncio.Lock()  # held by the operation that runs
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_stopping = False
        self._echoes = Echoes()
        self._delayed_stop: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()

    async def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        loop = asyncio.get_running_loop()
        actions: dict[int, Callable[[], object]] = {
            signal.SIGCHLD: self._on_child,
            signal.SIGINT: lambda: self.stop(0.0),
            signal.SIGTERM: lambda: self.stop(self.options.grace),
            signal.SIGQUIT: lambda: self.stop(self.options.grace),
            signal.SIGHUP: lambda: self.spawn_task(self.reloads.reload()),
            signal.SIGUSR1: self.reopen_logs,
            signal.SIGUSR2: lambda: self.spawn_task(self.handover.upgrade(None)),
        }
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number, actions[number])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # one that came during the start is not lost
        try:
            return await self._run()
        finally:
            await self.operators.close()
            self.statistics[0].set_word(HAS_ENDED, 1)
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the loop's handlers end with it

    def _on_signal(self, number: int, action: Callable[[], object]) -> None:
        """Act; once somebody else has taken over, the signal is for him, and he tells us what we need to know."""
        if number in ASKING_FOR_THE_END and self._echoes.is_echo(number):
            return
        if number == signal.SIGCHLD or not self.handover.pass_on(number):
            action()

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        starting = loop.create_task(self._start())
        ended = loop.create_task(self.ended.wait())
        look = loop.create_task(self._look())
        await asyncio.wait((starting, ended), return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and (error := starting.exception()) is not None and not self.is_stopping:
            look.cancel()
            self._kill_everything()
            if not isinstance(error, Refused):
                raise error
            say(str(error))
            if self.handover.predecessor is not None:
                self.handover.predecessor.refuse(str(error))
            return 2
        await ended
        for task in (starting, look):
            task.cancel()
        return 0

    def _commands(self) -> dict[str, Command]:
        async def status(question: dict[str, Any]) -> dict[str, Any]:
            return {"status": describe_instance(self)}

        async def stop(question: dict[str, Any]) -> dict[str, Any]:
            self.stop(0.0 if question.get("now") else self.options.grace)
            await self.ended.wait()
            return {"text": "stopped"}

        async def reload(question: dict[str, Any]) -> dict[str, Any]:
            return {"text": await self.reloads.reload()}

        async def upgrade(question: dict[str, Any]) -> dict[str, Any]:
            return {"text": await self.handover.upgrade(question.get("exec"))}

        async def scale(question: dict[str, Any]) -> dict[str, Any]:
            return {"text": await self.scaling.scale(question.get("workers", 0))}

        return {"status": status, "stop": stop, "reload": reload, "upgrade": upgrade, "scale": scale}

    @property
    def state(self) -> str:
        """What it does, in a word."""
        if self.is_stopping:
            return "stopping"
        if self.handover.has_happened:
            return "handed over"
        is_serving = self.generation is not None and any(worker.is_serving for worker in self.generation.workers)
        return "serving" if is_serving else "starting"

    @property
    def generations(self) -> list[Generation]:
        """All, the present one last."""
        return [*self.others, *([self.generation] if self.generation else [])]

    # Starting

    async def _start(self) -> None:
        async with self.busy:
            if self.handover.predecessor is not None:
                await self._start_from(self.handover.predecessor)
            else:
                await self.start_afresh()
        await self.places.first_ready  # without `busy`: meanwhile a reload may mend the program

    async def start_afresh(self) -> None:
        """Load the program and start all that belongs to it. Raises Refused."""
        await self.operators.open()
        self.take_over(await self.load(None, self.reloads.loaded))
        for name in self.sockets.close_unclaimed():
            say(f"the socket on {name} that was passed to us is used by nobody, closing it")
        self.places.fill()

    async def _start_from(self, predecessor: Predecessor) -> None:
        """Take over what another supervisor serves. Raises Refused, and then nothing has changed."""
        sockets, probes = predecessor.inherit(self.rings)
        if predecessor.tickets is not None:
            os.close(self.tickets)
            self.tickets = predecessor.tickets
        if predecessor.n_workers is not None:
            self.options = replace(self.options, workers=predecessor.n_workers)
            self.board.n_workers = self.sockets.n_slots = predecessor.n_workers
            self.scaling.is_by_hand = True
        self.statistics += open_all(predecessor.statistics)
        self.ports.sockets.adopt(probes)
        self.sockets.adopt(sockets)
        generation = await self.load(None, self.reloads.loaded)
        await self.places.start(generation, range(self.options.workers))
        drop_absorbed(self.statistics)
        await predecessor.ready(self.statistics[0].fd)
        if self.is_ending:
            raise Refused("the new instance is being stopped")
        self._open_slots(generation)
        await self.operators.open()
        self.take_over(generation)
        generation.accept()
        self._on_serving()
        self.handover.take_over(predecessor)
        self.sockets.keep_only(generation.addresses)
        self.ports.keep_only(self.options, generation)
        self.places.fill()  # the agent, and where one that was ready has died

    def _open_slots(self, generation: Generation) -> None:
        """Open the slots that the one before had not: no sooner, for clients wait in them. Raises Refused."""
        try:
            generation.add_slots(self.sockets.grow(self.options.workers))
        except UsageError as error:
            raise Refused(str(error)) from None

    async def load(self, timeout: float | None, given: GivenFiles) -> Generation:
        """Load the program in a new process, open what it listens on, and give that to it. Raises Refused."""
        channel, pid = self._start_process(self.tickets, given)
        self._n_generations += 1
        generation = Generation(self._n_generations, channel, pid, self._on_message)
        self.others.append(generation)
        new: list[str] = []
        new_ports: list[str] = []
        try:
            await asyncio.wait_for(generation.loaded(self.rings), timeout)
            new = self.sockets.open(generation.addresses)
            new_ports = self.ports.open(self.options, generation.metrics)
            generation.equip(self.board, self.statistics, self.rings, self.sockets, self.options.for_workers)
            self.ports.give(self.options, generation)
        except BaseException as error:
            self.sockets.close(new)
            self.ports.sockets.close(new_ports)
            self.discard(generation)
            if isinstance(error, asyncio.TimeoutError):
                raise Refused(f"the program was not loaded after {timeout:.0f} s") from None
            if isinstance(error, UsageError):
                raise Refused(str(error)) from None
            raise
        return generation

    def take_over(self, generation: Generation) -> None:
        """Make it the present one."""
        self.others.remove(generation)
        self.generation = generation
        self.statistics[0].set_word(GENERATION, generation.number)
        self.statistics[0].set_word(GENERATION_PID, generation.pid)
        self.places.forgive()

    def discard(self, generation: Generation) -> None:
        """Kill what never served."""
        generation.stop(0.0)
        generation.kill(signal.SIGKILL)

    def on_accepting(self) -> None:
        """Look whether all workers serve, after one has begun to."""
        if self.generation is not None and all(worker.is_serving for worker in self.generation.workers):
            self._on_serving()

    @property
    def is_ending(self) -> bool:
        """Whether its end was asked for, which may come after the ready delay."""
        return self.is_stopping or self._delayed_stop is not None

    def _on_serving(self) -> None:
        """All workers serve: say so, if it is news and nobody has asked for the end."""
        if not self.board.is_ready and not self.is_ending:
            self.board.is_ready = True
            self.notifier.ready("serving")
            workers = n_workers_text(self.options.workers)
            say(f"listening on {', '.join(self.sockets.names())} with {workers}, process {os.getpid()}")
            give_memory_back()
            if self.daemon is not None:
                self.daemon.serving(self.options.log_files)
                self.daemon = None
                for generation in self.generations:
                    generation.reopen_logs()

    # What ends, and what does not

    def _on_message(self, generation: Generation, worker: Worker, message: Message | None) -> None:
        if message is None:
            self._on_child()
        elif message.kind == "publish" and worker.number == AGENT and generation is self.generation:
            workers = (worker for generation in self.generations for worker in generation.servers)
            self.places.published.take(message, workers)
        elif message.kind == "recycle":
            self.places.recycle(generation, worker, message["why"])

    def _on_child(self) -> None:
        for generation in self.generations:
            for worker, status in generation.reap():
                self.places.on_ended(generation, worker, status)
        lost = self.generation
        if lost is not None and lost.is_gone and not lost.is_retired:
            say(f"generation {lost.number} died, loading the program again")
            lost.is_retired = True  # it forks nothing any more
            self.spawn_task(self.reloads.replace_lost(lost))
        self.others = [one for one in self.others if one.workers or not one.is_gone]
        self.handover.reap()
        if not self.is_embedded:
            ours = set[int]().union(*(generation.pids for generation in self.generations))
            reap_strangers(ours | self.handover.pids)
        self.check_ended()

    async def _look(self) -> None:
        watch = StuckWatch(self.board)
        while True:
            await asyncio.sleep(LOOK_S)
            self.notifier.feed_watchdog()
            if self.generation is not None and not self.is_stopping:
                watch.look(self.generation.workers, self.options.stuck_after)

    def reopen_logs(self) -> None:
        """Write to new files where the old ones were moved away."""
        try:
            open_log_files(self.options.log_files)
        except Refused as error:
            say(str(error))
            return
        for generation in self.generations:
            generation.reopen_logs()

    def retire(self, generation: Generation) -> None:
        """Let a generation that was replaced drain, not longer than it may."""
        self.others.append(generation)
        generation.retire(self.options.drain)
        draining = [one for one in self.others if one.workers]
        for one in draining[: max(len(draining) - RETIRED_MOST, 0)]:
            say(f"generation {one.number} still serves and is cut: {RETIRED_MOST} younger ones drain")
            one.stop(0.0)
        self._kill_later(generation, self.options.drain + MARGIN_S)

    def _kill_later(self, generation: Generation, delay: float) -> None:
        def kill() -> None:
            for worker in generation.workers:
                if worker.pid:
                    say(f"worker {worker.pid} does not end, killing it")
            generation.kill(signal.SIGKILL)

        asyncio.get_running_loop().call_later(delay, kill)

    # Stopping

    def stop(self, seconds: float) -> None:
        """Stop; requests have `seconds`. The second call cuts them. The first says "not ready" for a while before."""
        if self._delayed_stop is not None:
            self._delayed_stop.cancel()
            self.stop_now(0.0)
        elif self.board.is_ready and seconds and self.options.ready_delay:
            self.board.is_ready = False
            loop = asyncio.get_running_loop()
            self._delayed_stop = loop.call_later(self.options.ready_delay, self.stop_now, seconds)
        else:
            self.stop_now(0.0 if self.is_stopping else seconds)

    def withdraw_stop(self) -> bool:
        """Take back a stop that waits for the ready delay, which is for whoever serves now. False: there is none."""
        if self._delayed_stop is None or self.is_stopping:
            return False
        self._delayed_stop.cancel()
        self._delayed_stop = None
        return True

    def stop_now(self, seconds: float) -> None:
        """Stop, requests have `seconds`. Another call gives them another time."""
        self.is_stopping = True
        self.board.is_ready = False
        if not self.handover.has_happened:
            self.notifier.send(STOPPING=1)
            if self.handover.successor is not None:
                self.handover.successor.kill()  # it has not taken over yet
            self._close_sockets()
        self.handover.stop(seconds)
        for generation in self.generations:
            generation.stop(seconds)
            self._kill_later(generation, seconds + MARGIN_S)
        self.check_ended()

    def check_ended(self) -> None:
        """End if nothing is left to do."""
        generation = self.generation
        if self.handover.lets_end and not self.others and (generation is None or generation.has_ended):
            self.ended.set()

    def _kill_everything(self) -> None:
        for generation in self.generations:
            self.discard(generation)
        self._close_sockets()

    def _close_sockets(self) -> None:
        """Refuse clients from now on; in an upgrade that has not come so far, the sockets are still the other's."""
        for sockets in (self.sockets, self.ports.sockets):
            if self.handover.predecessor is not None and self.generation is None:
                sockets.release()
            else:
                sockets.close_all()

    def spawn_task(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run an operation that nobody waits for; what it refuses has been said."""

        async def run() -> None:
            with contextlib.suppress(Refused):
                await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
