"""An upgrade as it concerns a supervisor: whom it follows, who follows it, and what it is meanwhile."""

import asyncio
import os
from typing import TYPE_CHECKING

from pingora.supervisor import Refused, say
from pingora.supervisor.generation import wait_for
from pingora.supervisor.statistics import open_all
from pingora.supervisor.upgrade import Predecessor, Successor

if TYPE_CHECKING:
    from pingora.supervisor.instance import Supervisor


class Handover:
    """The supervisors before and after one. Leads the upgrade to the next."""

    def __init__(self, supervisor: "Supervisor", predecessor: Predecessor | None) -> None:
        self._supervisor = supervisor
        self.predecessor = predecessor
        self.successor: Successor | None = None  # from its start on
        self.is_over = False  # it serves, and nothing of ours is needed any more but what still drains

    @property
    def has_happened(self) -> bool:
        """Whether the next supervisor serves in our place."""
        return self.successor is not None and self._supervisor.generation is None

    @property
    def stays(self) -> bool:
        """Whether this process ends only after the one that took over: as process 1 it is the container."""
        return os.getpid() == 1 or (self.predecessor is not None and self.predecessor.stays)

    @property
    def lets_end(self) -> bool:
        """Whether this process may end, once nothing drains any more."""
        if self.successor is not None and self.stays:
            return self.successor.has_ended
        return self.is_over or self._supervisor.is_stopping

    @property
    def pids(self) -> set[int]:
        """The process id of the next supervisor, if there is one."""
        return set() if self.successor is None else {self.successor.pid}

    def reap(self) -> None:
        """Note whether the next supervisor has ended."""
        if self.successor is not None and not self.successor.has_ended:
            self.successor.has_ended = wait_for(self.successor.pid) is not None

    def leave(self) -> None:
        """Tell the supervisor before us that our end is in order."""
        if self.predecessor is not None:
            self.predecessor.leaving()

    async def upgrade(self, program: str | None) -> str:
        """Let a new supervisor, run by `program` or as we are, take over. Raises Refused, and then nothing changed."""
        try:
            async with self._supervisor.busy:
                return await self._hand_over(program)
        except Refused as error:
            say(f"upgrade refused: {error}")
            raise

    async def _hand_over(self, program: str | None) -> str:
        ours = self._supervisor
        if ours.is_stopping or ours.generation is None:
            raise Refused("the instance is not running")
        successor = await self._start(program)
        old, ours.generation = ours.generation, None
        ours.retire(old)
        ours.notifier.send(MAINPID=successor.pid, READY=1)
        text = f"process {successor.pid} has taken over"
        say(text)
        ours.spawn_task(self._serve_if_it_dies())
        return text

    async def _serve_if_it_dies(self) -> None:
        ours = self._supervisor
        if await self._survives():
            ours.check_ended()
            return
        ours.notifier.send(MAINPID=os.getpid())
        ours.board.is_ready = False
        async with ours.busy:
            try:
                await ours.start_afresh()
            except Refused as error:
                say(f"cannot serve again: {error}")
                ours.stop(0.0)

    async def _start(self, program: str | None) -> Successor:
        """Start the new supervisor and let it serve. Raises Refused, and then nothing has changed."""
        ours = self._supervisor
        successor = self.successor = Successor(ours.command_line(program), ours.notifier.environment)
        n_workers = ours.options.workers if ours.scaling.is_by_hand else None
        try:
            fds = [ours.tickets, *(one.fd for one in ours.statistics)]
            await successor.prepare(ours.sockets, ours.ports.sockets, fds, self.stays, n_workers)
            if ours.is_stopping:
                raise Refused("the instance is being stopped")
            ours.operators.release()
            try:
                await successor.go()
            except Refused:
                await ours.operators.open()
                raise
        except BaseException:
            self.successor = None
            successor.kill()
            successor.close()
            raise
        self.leave()
        return successor

    async def _survives(self) -> bool:
        """Let go of the sockets once the new supervisor has lived for a while. False: it died, and we must serve."""
        ours, successor = self._supervisor, self.successor
        assert successor is not None
        survived = await successor.survives() or ours.is_stopping
        successor.close()
        if survived:
            ours.sockets.release()
            ours.ports.sockets.release()
            for fd in successor.statistics:
                os.close(fd)
            self.is_over = True
            return True
        say(f"process {successor.pid} died at once, serving again")
        successor.kill()
        while not successor.has_ended:  # it may still hold the control socket  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        ours.statistics += open_all(successor.statistics)
        ours.drop_absorbed()
        self.successor = None
        return False
