"""Workers that show no sign of life: asked where they are, later aborted, which says it in any case, and killed if that
does not end them.
"""

import signal
import time
from collections.abc import Iterable

from pingora.supervisor import say
from pingora.supervisor.board import ASK, Board, now_ms
from pingora.supervisor.worker import Worker

LOOK_S = 0.25  # between two looks
ABORT_S = 2.0  # from SIGABRT to SIGKILL


class StuckWatch:
    """Judges workers by their signs of life. After a pause of its own it judges nobody: then all were paused."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._looked_at = time.monotonic()

    def look(self, workers: Iterable[Worker], limit_s: float) -> None:
        """Ask those that have been silent for as long as they said, once; abort those that are for `limit_s`, unless
        that is 0. Call this every LOOK_S.
        """
        now = time.monotonic()
        was_paused = now - self._looked_at > 4 * LOOK_S
        self._looked_at = now
        for worker in workers:
            last = self._board.last_beat(worker.number)
            silent_ms = now_ms() - last if last and worker.is_serving and not was_paused else 0
            patience_ms = self._board.patience_ms(worker.number)
            if patience_ms and silent_ms > patience_ms and worker.asked_for != last:
                worker.asked_for = last
                worker.kill(ASK)
            if not limit_s or silent_ms < limit_s * 1000:
                worker.stuck_since = 0.0
            elif not worker.stuck_since:
                worker.stuck_since = now
                say(f"worker {worker.pid} has been stuck for {limit_s:g} s, aborting it")
                worker.kill(signal.SIGABRT)
            elif now - worker.stuck_since > ABORT_S:
                worker.kill(signal.SIGKILL)
