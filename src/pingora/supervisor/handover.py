"""An upgrade as it concerns a supervisor: whom it follows, who follows it, and what it is meanwhile."""

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from pingora.supervisor import Refused, say
from pingora.supervisor.elders import Elders
from pingora.supervisor.generation import wait_for
from pingora.supervisor.places import MARGIN_S
from pingora.supervisor.predecessor import Predecessor
from pingora.supervisor.process_one import ProcessOne
from pingora.supervisor.statistics import drop_absorbed, open_all
from pingora.supervisor.upgrade import Successor

if TYPE_CHECKING:
    from pingora.supervisor.instance import Supervisor


class Handover:
    """The supervisors before and after one, and process 1 if it is ours. Leads the upgrade to the next."""

    def __init__(
        self, supervisor: "Supervisor", predecessor: Predecessor | None, process_one: ProcessOne | None
    ) -> None:
        self._supervisor = supervisor
        self.predecessor = predecessor
        self.process_one = process_one
        self.elders = Elders(supervisor.check_ended)
        self.successor: Successor | None = None  # from its start on
        self.is_over = False  # it serves, and nothing of ours is needed any more but what still drains

    @property
    def has_happened(self) -> bool:
        """Whether the next supervisor serves in our place."""
        return self.successor is not None and self._supervisor.generation is None

    @property
    def lets_end(self) -> bool:
        """Whether this process may end, once nothing of its own drains any more."""
        if self.successor is None and self.elders:
            return False
        return self.is_over or self._supervisor.is_stopping

    @property
    def pids(self) -> set[int]:
        """The process id of the next supervisor, if there is one."""
        return set() if self.successor is None else {self.successor.pid}

    def reap(self) -> None:
        """Note whether the next supervisor has ended."""
        successor = self.successor
        if successor is None or successor.has_ended or not ends(successor.pid):
            return
        if not self.is_over:
            self.name_main()  # while nobody can see that it is gone
        successor.has_ended = wait_for(successor.pid) is not None

    def name_main(self) -> None:
        """Say to process 1 that we are the one that serves."""
        if self.process_one is not None:
            self.process_one.name_main()

    def pass_on(self, number: int) -> bool:
        """Pass a signal on to whoever serves in our place; False if nobody does."""
        if not self.has_happened or self.successor is None or self.successor.has_ended:
            return False
        self.successor.kill(number)
        return True

    def take_over(self, predecessor: Predecessor) -> None:
        """Serve in place of the supervisor before us, from now on."""
        self.name_main()
        predecessor.serving()
        for channel in (*predecessor.elders, predecessor.channel):
            self.elders.add(channel)

    def stop(self, seconds: float) -> None:
        """Let the supervisors before us end as well. Our own end is in order."""
        if self.has_happened:
            return  # they are told by whoever serves
        if self.elders:
            self.elders.stop(seconds)
            asyncio.get_running_loop().call_later(seconds + 2 * MARGIN_S, self._give_up)
        elif self.predecessor is not None:
            self.predecessor.leaving()

    def _give_up(self) -> None:
        self.elders.release()
        self._supervisor.check_ended()

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
        if ours.is_ending or ours.generation is None:
            raise Refused("the instance is not running")
        successor = await self._start(program)
        old, ours.generation = ours.generation, None
        ours.retire(old)
        ours.notifier.send(MAINPID=successor.pid, READY=1)
        text = f"process {successor.pid} has taken over"
        say(text)
        if ours.withdraw_stop():
            successor.kill(signal.SIGTERM)
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
        successor = Successor(ours.command_line(program), ours.notifier.environment, self.process_one)
        self.successor = successor
        try:
            await successor.prepare(ours)
            if ours.is_ending:
                raise Refused("the instance is being stopped")
            ours.operators.release()
            try:
                await successor.go(ours.stop_now)
            except Refused:
                await ours.operators.open()
                raise
        except BaseException:
            self.successor = None
            self.name_main()
            successor.kill()
            successor.close()
            raise
        if self.predecessor is not None:
            self.predecessor.leaving()
        return successor

    async def _survives(self) -> bool:
        """Let go of the sockets once the new supervisor has lived for a while. False: it died, and we must serve."""
        ours, successor = self._supervisor, self.successor
        assert successor is not None
        if await successor.survives() or ours.is_stopping:
            self.elders.release()
            ours.sockets.release()
            ours.ports.sockets.release()
            for fd in successor.statistics:
                os.close(fd)
            self.is_over = True
            return True
        say(f"process {successor.pid} died at once, serving again")
        successor.close()
        successor.kill()
        while not successor.has_ended:  # it may still hold the control socket  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        ours.statistics += open_all(successor.statistics)
        drop_absorbed(ours.statistics)
        self.successor = None
        return False


def ends(pid: int) -> bool:
    """Say whether a child has ended, without waiting for it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True  # somebody else waited for it
