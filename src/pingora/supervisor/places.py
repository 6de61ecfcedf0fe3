"""The workers and the agent of the present generation by their places: who is started, replaced, and let go."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pingora.supervisor import Refused, describe, say
from pingora.supervisor.backoff import Backoff
from pingora.supervisor.board import AGENT
from pingora.supervisor.generation import Generation, all_ready, end_of
from pingora.supervisor.published import Published
from pingora.supervisor.statistics import AGENTS_DIED, WORKERS_DIED
from pingora.supervisor.worker import Worker, set_done

if TYPE_CHECKING:
    from pingora.supervisor.instance import Supervisor

# Beyond the grace or the drain, until a worker that does not end is killed: its WebSockets may take 1.2 s to be closed,
# and then its worker_stop 5 s.
MARGIN_S = 7.5
TRIES = 5  # of each place, after which a program is given up of which no worker was ever ready
AGENT_STOP_S = 5.0  # that an agent has to end while another one waits


class Places:
    """Starts and replaces workers of a supervisor; `published` is what each of them is given first."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self._backoff: defaultdict[int, Backoff] = defaultdict(Backoff)  # by the worker's number
        self.published = Published()
        # Done when a worker was ready for the first time; Refused if none will be.
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def forgive(self) -> None:
        """Forget who died: another generation begins."""
        self._backoff.clear()

    def _start_worker(self, number: int) -> None:
        """Start a worker at a place that has none, or one that did enough; it accepts as soon as it is ready."""
        ours = self._supervisor
        generation = ours.generation
        if generation is None or generation.is_retired or ours.is_stopping or ours.reloads.is_in_place:
            return
        if number == AGENT and not self.wants_agent:
            return
        if number != AGENT and number >= ours.options.workers:
            return
        there = [one for one in generation.workers if one.number == number and (number == AGENT or not one.is_leaving)]
        if all(one.did_enough and one.is_serving for one in there):
            worker = generation.fork(number)
            self.published.give_all(worker)
            worker.ready.add_done_callback(
                lambda future: self._on_ready(generation, worker) if future.exception() is None else None
            )

    async def start(self, generation: Generation, numbers: Iterable[int]) -> list[Worker]:
        """Start workers that accept nobody yet and wait until they are ready. Raises Refused, and then ends them."""
        started = [generation.fork(number) for number in numbers]
        try:
            for worker in started:
                self.published.give_all(worker)
            await all_ready(started)
            set_done(self.first_ready)
        except BaseException:
            for worker in started:
                worker.is_leaving = True
                worker.doom()
            raise
        return started

    def fill(self) -> None:
        """Start a worker at each place that has none, or one that did enough, and the agent."""
        ours = self._supervisor
        for number in range(ours.options.workers):
            self._start_worker(number)
        self.start_agent()

    def start_agent(self) -> None:
        """Start the agent of the present generation, if there is work for one."""
        if self.wants_agent:
            self._start_worker(AGENT)

    @property
    def wants_agent(self) -> bool:
        """Whether there is work for an agent."""
        ours = self._supervisor
        if ours.generation is None:
            return False
        return ours.generation.has_agent or bool(ours.ports.wanted(ours.options, ours.generation.metrics))

    def renew_agent(self) -> None:
        """Put one with the present configuration in place of the agent, if there is work for one; never two at once."""
        ours = self._supervisor
        running = [one for one in ours.generation.workers if one.number == AGENT] if ours.generation is not None else []
        for worker in running:
            self.let_go(worker, AGENT_STOP_S)
        if not running:
            self.start_agent()

    def _on_ready(self, generation: Generation, worker: Worker) -> None:
        ours = self._supervisor
        has_ended = worker.is_leaving or worker not in generation.workers
        if has_ended or generation is not ours.generation or ours.is_stopping:
            return  # it has ended since it said so, or was told to
        if worker.number != AGENT:
            set_done(self.first_ready)
        worker.accept()
        ours.on_accepting()
        for before in generation.followers:
            if before.number == worker.number and before is not worker:
                self.let_go(before, ours.options.drain)
        self._start_worker(worker.number)  # if this one grew too much in its start

    def recycle(self, generation: Generation, worker: Worker, why: str) -> None:
        """Replace a worker that did enough: another one takes its place first, after a reload in place if one runs."""
        ours = self._supervisor
        worker.did_enough = True
        if generation is ours.generation and not ours.is_stopping and not worker.is_leaving:
            say(f"worker {worker.pid} {why}, replacing it")
            self._start_worker(worker.number)

    def let_go(self, worker: Worker, seconds: float) -> None:
        """Let a worker of the present generation end, for whose place there is another one, or which has none."""
        ours = self._supervisor
        worker.leave(seconds)

        def kill() -> None:
            if any(worker in generation.workers for generation in ours.generations):
                say(f"worker {worker.pid} does not end, killing it")
                worker.doom()

        asyncio.get_running_loop().call_later(seconds + MARGIN_S, kill)

    def on_ended(self, generation: Generation, worker: Worker, status: int | None) -> None:
        """Start another one in place of a worker that has ended, with a wait status if it is known, if one is due."""
        ours = self._supervisor
        is_present = generation is ours.generation
        if is_present and worker.is_serving:
            ours.board.clear(worker.number)
        if not is_present or ours.is_stopping:
            return
        if worker.is_leaving:
            if worker.number == AGENT:
                self.start_agent()
            return
        delay = self._backoff[worker.number].delay_after(worker.is_serving)
        if worker.pid and status is not None:
            ours.statistics[0].count(AGENTS_DIED if worker.number == AGENT else WORKERS_DIED)
            if self._gives_up(worker, status):
                return
            when = f"in {delay:.1f} s" if delay else "now"
            did = f"; {requests_of(worker)}" if worker.is_serving and worker.number != AGENT else ""
            say(f"worker {worker.pid} {describe(status)}, starting another {when}{did}")
        asyncio.get_running_loop().call_later(delay, self._start_worker, worker.number)

    def _gives_up(self, worker: Worker, status: int) -> bool:
        """Refuse the program if no worker of it was ever ready and each place has had its tries."""
        if self.first_ready.done() or worker.number == AGENT or self._supervisor.busy.locked():
            return False  # what holds it may be a reload of a program that was mended
        if any(self._backoff[number].n_failed < TRIES for number in range(self._supervisor.options.workers)):
            return False
        why = f"no worker became ready in {TRIES} tries, correct what stops it: the last one {end_of(worker, status)}"
        self.first_ready.set_exception(Refused(why))
        return True


def requests_of(worker: Worker) -> str:
    """Say what a worker that has ended had begun, and what it had in hand: it counted in memory that outlives it."""
    n_begun, n_running = worker.last.get("pingora_requests_total", 0), worker.last.get("pingora_requests_active", 0)
    return f"requests begun: {n_begun}, running: {n_running}"
