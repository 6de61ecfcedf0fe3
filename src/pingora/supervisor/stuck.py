"""Workers that show no sign of life: aborted, so that they say where they are, and killed if that does not end them."""

import signal
import time
from collections.abc import Iterable

from pingora.supervisor import say
from pingora.supervisor.board import Board, now_ms
from pingora.supervisor.worker import Worker

LOOK_S = 0.25  # between two looks
ABORT_S = 2.0  # from SIGABRT to SIGKILL


class StuckWatch:
    """Judges workers by their signs of life. After a pause of its own it judges nobody: then all were paused."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._looked_at = time.monotonic()

    def look(self, workers: Iterable[Worker], limit_s: float) -> None:
        """Abort those that have been stuck for `limit_s`, unless that is 0; call this every LOOK_S."""
        now = time.monotonic()
        was_paused = now - self._looked_at > 4 * LOOK_S
        self._looked_at = now
        for worker in workers if limit_s else ():
            last = self._board.last_beat(worker.number)
            if was_paused or not worker.is_serving or not last or now_ms() - last < limit_s * 1000:
                worker.stuck_since = 0.0
            elif not worker.stuck_since:
                worker.stuck_since = now
                say(f"worker {worker.pid} has been stuck for {limit_s:g} s, aborting it")
                worker.kill(signal.SIGABRT)
            elif now - worker.stuck_since > ABORT_S:
                worker.kill(signal.SIGKILL)
