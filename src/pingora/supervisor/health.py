"""Health probes for load balancers: /live while the instance runs, /ready while new clients are welcome."""

from pingora.observe.answering import Answer, Question
from pingora.supervisor.board import Board, now_ms

STALE_MS = 1000  # without a sign of life, a worker does not count as one that serves


class Health:
    """Answers probes by what the board says."""

    def __init__(self, board: Board) -> None:
        self._board = board

    @property
    def is_ready(self) -> bool:
        """Whether the supervisor wants new clients and a worker is there for them."""
        latest = now_ms() - STALE_MS
        return self._board.is_ready and any(
            self._board.last_beat(number) >= latest for number in range(self._board.n_workers)
        )

    def answer(self, question: Question) -> Answer:
        """Answer /live and /ready."""
        if question.path == "/live":
            return Answer(200, b"live\n")
        if question.path == "/ready":
            return Answer(200, b"ready\n") if self.is_ready else Answer(503, b"not ready\n")
        return Answer(404, b"/live or /ready\n")
