"""The supervisor: starts a generation and keeps its workers running until it is told to stop.

It imports no user code, opens all listening sockets, and does one operation (reload, upgrade) at a time.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from pingora.server import UsageError
from pingora.supervisor import Refused, describe, paths, say
from pingora.supervisor.backoff import LONGEST_DELAY_S, Backoff
from pingora.supervisor.board import Board, now_ms
from pingora.supervisor.channel import Channel, Message
from pingora.supervisor.control import Command, ControlSocket, remove_pid_file, write_pid_file
from pingora.supervisor.generation import Generation
from pingora.supervisor.log_files import open_log_files
from pingora.supervisor.options import Options
from pingora.supervisor.sockets import SlotSockets
from pingora.supervisor.status import describe_instance
from pingora.supervisor.worker import Worker

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
MARGIN_S = 2.0  # beyond the grace or the drain, until a worker that does not end is killed
LOOK_S = 0.25  # between two looks at the signs of life
RETIRED_MOST = 4  # generations that drain at the same time
LOAD_S = 120.0  # that a program may take to load in a reload


class Supervisor:
    """One instance. `start` gives a process that loads the program: the channel to it and its process id."""

    def __init__(self, options: Options, start: Callable[[], tuple[Channel, int]]) -> None:
        self.options = options
        self.started_at = time.time()
        self.n_reloads = 0
        self._start_process = start
        self.board = Board.create()
        self.board.n_workers = options.workers
        self.sockets = SlotSockets(options.workers)
        self.generation: Generation | None = None
        self.others: list[Generation] = []  # that load, drain, or were discarded, until their processes are reaped
        self._n_generations = 0
        self._backoff = [Backoff() for _ in range(options.workers)]
        self._busy = asyncio.Lock()
        self.control: ControlSocket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_stopping = False
        self.ended = asyncio.Event()
        self._looked_at = time.monotonic()

    async def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        loop = asyncio.get_running_loop()
        actions: dict[int, Callable[[], object]] = {
            signal.SIGCHLD: self._on_child,
            signal.SIGINT: lambda: self.stop(0.0),
            signal.SIGTERM: lambda: self.stop(self.options.grace),
            signal.SIGQUIT: lambda: self.stop(self.options.grace),
            signal.SIGHUP: lambda: self._spawn_task(self.reload()),
            signal.SIGUSR1: self.reopen_logs,
        }
        for number in SIGNALS:
            loop.add_signal_handler(number, actions.get(number, lambda: None))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # one that came during the start is not lost
        try:
            return await self._run()
        finally:
            await self._close_control()
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the loop's handlers end with it

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        starting = loop.create_task(self._start())
        ended = loop.create_task(self.ended.wait())
        look = loop.create_task(self._look_for_stuck())
        await asyncio.wait((starting, ended), return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and (error := starting.exception()) is not None and not self.is_stopping:
            look.cancel()
            self._kill_everything()
            if not isinstance(error, Refused):
                raise error
            say(str(error))
            return 2
        await ended
        for task in (starting, look):
            task.cancel()
        return 0

    async def _open_control(self) -> None:
        """Make the control socket and the pid file. Raises Refused if one that was asked for cannot be made."""
        options = self.options
        pid_file = Path(options.pid_file) if options.pid_file else None
        explicit = options.control or os.environ.get(paths.ENVIRONMENT)
        path = Path(explicit) if explicit else pid_file.with_suffix(".sock") if pid_file else None
        try:
            path, sock = (path, paths.bind(path)) if path else paths.bind_default(options.name)
        except Refused as error:
            if path:
                raise
            say(f"{error}; only signals control this instance")
            return
        self.control = ControlSocket(path, sock, self._commands())
        await self.control.start()
        if pid_file:
            write_pid_file(pid_file)

    def _commands(self) -> dict[str, Command]:
        async def status(question: dict[str, Any]) -> dict[str, Any]:
            return {"status": describe_instance(self)}

        async def stop(question: dict[str, Any]) -> dict[str, Any]:
            self.stop(0.0 if question.get("now") else self.options.grace)
            await self.ended.wait()
            return {"text": "stopped"}

        async def reload(question: dict[str, Any]) -> dict[str, Any]:
            return {"text": await self.reload()}

        return {"status": status, "stop": stop, "reload": reload}

    async def _close_control(self) -> None:
        if self.options.pid_file:
            remove_pid_file(Path(self.options.pid_file))
        if self.control is not None:
            await self.control.close()

    @property
    def state(self) -> str:
        """What it does, in a word."""
        if self.is_stopping:
            return "stopping"
        is_serving = self.generation is not None and any(worker.is_serving for worker in self.generation.workers)
        return "serving" if is_serving else "starting"

    @property
    def generations(self) -> list[Generation]:
        """All, the present one last."""
        return [*self.others, *([self.generation] if self.generation else [])]

    # Starting

    async def _start(self) -> None:
        async with self._busy:
            await self._open_control()
            self._take_over(await self._load(None))
            for number in range(self.options.workers):
                self._start_worker(number)

    async def _load(self, timeout: float | None) -> Generation:
        """Load the program in a new process, open what it listens on, and give that to it. Raises Refused."""
        channel, pid = self._start_process()
        self._n_generations += 1
        generation = Generation(self._n_generations, channel, pid, self._on_message)
        self.others.append(generation)
        new: list[str] = []
        try:
            await asyncio.wait_for(generation.loaded(), timeout)
            new = self.sockets.open(generation.addresses)
            generation.equip(self.board, self.sockets, self.options.drain)
        except BaseException as error:
            self.sockets.close(new)
            self._discard(generation)
            if isinstance(error, asyncio.TimeoutError):
                raise Refused(f"the program was not loaded after {timeout:.0f} s") from None
            if isinstance(error, UsageError):
                raise Refused(str(error)) from None
            raise
        return generation

    def _take_over(self, generation: Generation) -> None:
        """Make it the present one."""
        self.others.remove(generation)
        self.generation = generation

    def _discard(self, generation: Generation) -> None:
        """Kill what never served."""
        generation.stop(0.0)
        generation.kill(signal.SIGKILL)

    def _start_worker(self, number: int) -> None:
        """Start a worker of the present generation; it accepts as soon as it is ready."""
        generation = self.generation
        if generation is None or self.is_stopping:
            return
        if any(worker.number == number for worker in generation.workers):
            return
        worker = generation.fork(number)
        worker.ready.add_done_callback(lambda future: worker.accept() if future.exception() is None else None)

    # What ends, and what does not

    def _on_message(self, generation: Generation, worker: Worker, message: Message | None) -> None:
        if message is None:
            self._on_child()

    def _on_child(self) -> None:
        for generation in self.generations:
            for worker, status in generation.reap():
                self._on_worker_ended(generation, worker, status)
        lost = self.generation
        if lost is not None and lost.is_gone and not lost.is_retired:
            say(f"generation {lost.number} died, loading the program again")
            lost.is_retired = True  # it forks nothing any more
            self._spawn_task(self._replace_lost(lost))
        self.others = [one for one in self.others if one.workers or not one.is_gone]
        self._check_ended()

    def _on_worker_ended(self, generation: Generation, worker: Worker, status: int | None) -> None:
        is_present = generation is self.generation
        if is_present and worker.is_serving:
            self.board.clear(worker.number)
        if not is_present or self.is_stopping:
            return
        delay = self._backoff[worker.number].delay_after(worker.is_serving)
        if worker.pid and status is not None:
            when = f"in {delay:.1f} s" if delay else "now"
            say(f"worker {worker.pid} {describe(status)}, starting another {when}")
        asyncio.get_running_loop().call_later(delay, self._start_worker, worker.number)

    async def _replace_lost(self, lost: Generation) -> None:
        """Replace a generation that cannot fork any more; its workers serve on meanwhile."""
        delay = 0.1
        while self.generation is lost and not self.is_stopping:
            try:
                await self._change_generation()
            except Refused as error:
                say(f"cannot load the program again: {error}")
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_S)

    async def _look_for_stuck(self) -> None:
        """Abort workers that show no sign of life. Does not judge after a pause of its own: then all were paused."""
        limit_ms = self.options.stuck_after * 1000
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            was_paused = now - self._looked_at > 4 * LOOK_S
            self._looked_at = now
            if self.generation is None or not limit_ms or self.is_stopping:
                continue
            for worker in self.generation.workers:
                last = self.board.last_beat(worker.number)
                if was_paused or not worker.is_serving or not last or now_ms() - last < limit_ms:
                    worker.stuck_since = 0.0
                elif not worker.stuck_since:
                    worker.stuck_since = now
                    say(f"worker {worker.pid} has been stuck for {limit_ms / 1000:g} s, aborting it")
                    worker.kill(signal.SIGABRT)
                elif now - worker.stuck_since > MARGIN_S:
                    worker.kill(signal.SIGKILL)

    def reopen_logs(self) -> None:
        """Write to new files where the old ones were moved away."""
        try:
            open_log_files(self.options.log_files)
        except Refused as error:
            say(str(error))
            return
        for generation in self.generations:
            generation.reopen_logs()

    # Reloading

    async def reload(self) -> str:
        """Load the program anew beside the running one and let it take over. Raises Refused."""
        try:
            await self._change_generation()
        except Refused as error:
            say(f"reload refused: {error}")
            raise
        self.n_reloads += 1
        assert self.generation is not None
        text = f"generation {self.generation.number} has taken over"
        say(text)
        return text

    async def _change_generation(self) -> None:
        async with self._busy:
            if self.is_stopping or self.generation is None:
                raise Refused("the instance is not running")
            old, new = self.generation, await self._load(LOAD_S)
            try:
                await new.start_workers(self.options.workers)
                if self.is_stopping:
                    raise Refused("the instance is being stopped")
            except BaseException:
                self._discard(new)
                self.sockets.keep_only(old.addresses)
                raise
            self._take_over(new)
            self._backoff = [Backoff() for _ in range(self.options.workers)]
            new.accept()
            self._retire(old)
            await old.refuses()
            self.sockets.keep_only(new.addresses)

    def _retire(self, generation: Generation) -> None:
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
        """Stop; requests have `seconds`. The second call cuts them."""
        if self.is_stopping:
            seconds = 0.0
        self.is_stopping = True
        self.board.is_ready = False
        self.sockets.close_all()
        for generation in self.generations:
            generation.stop(seconds)
            self._kill_later(generation, seconds + MARGIN_S)
        self._check_ended()

    def _check_ended(self) -> None:
        generation = self.generation
        if self.is_stopping and not self.others and (generation is None or generation.has_ended):
            self.ended.set()

    def _kill_everything(self) -> None:
        for generation in self.generations:
            generation.kill(signal.SIGKILL)
        self.sockets.close_all()

    def _spawn_task(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run an operation that nobody waits for; what it refuses has been said."""

        async def run() -> None:
            with contextlib.suppress(Refused):
                await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
