"""RetryPolicy: when a request is tried again."""

from dataclasses import dataclass
from typing import Any


def check_statuses(statuses: tuple[int, ...]) -> None:
    """Raise ValueError for too many statuses, or one that no failed answer has."""
    for status in statuses:
        if not 400 <= status <= 599:
            raise ValueError(f"statuses: expected at most 16 from 400 to 599, not {status!r}, got {statuses!r}")
    if len(statuses) > 16:
        raise ValueError(f"statuses: expected at most 16 from 400 to 599, got {len(statuses)}")


@dataclass(frozen=True)
class RetryPolicy:
    """When a request is tried again, and how often; times in seconds, None for no limit.

    Always tried again, as long as `attempts` are left: a request of which nothing was sent (the connect failed), and
    one whose reused connection died before an answer if its method is idempotent or its body was not begun.
    Never: once a byte of an answer went to the client, or if more than `replay_bytes` of the body have come.
    """

    attempts: int = 3  # tries of one request, the first included
    try_timeout: float | None = None  # one try, from its connect to the head of the answer: 504 or the next try
    total_timeout: float | None = None  # all tries, from the request's head to the head of the answer: 504
    lost: bool = False  # also when a new connection died or stayed silent before an answer
    statuses: tuple[int, ...] = ()  # answers that count as failed, such as (502, 503); the last try's is passed on
    any_method: bool = False  # `lost` and `statuses` hold for methods that are not idempotent, such as POST, too
    replay_bytes: int = 65536  # of a request body kept for sending it again

    def __post_init__(self) -> None:
        """Raise ValueError for what makes no sense."""
        if not 1 <= self.attempts <= 100:
            raise ValueError(f"attempts: expected 1 to 100, got {self.attempts!r}")
        for name in ("try_timeout", "total_timeout"):
            seconds = getattr(self, name)
            if seconds is not None and not 0.001 <= seconds <= 86400:
                raise ValueError(f"{name}: expected 0.001 to 86400 seconds or None, got {seconds!r}")
        check_statuses(self.statuses)
        if not 0 <= self.replay_bytes <= 1 << 30:
            raise ValueError(f"replay_bytes: expected 0 to 1 GiB, got {self.replay_bytes!r}")

    def for_core(self) -> dict[str, Any]:
        """Give the fields of the core's RetryRules, times in milliseconds."""
        return {
            "attempts": self.attempts,
            "try_ms": int((self.try_timeout or 0) * 1000),
            "total_ms": int((self.total_timeout or 0) * 1000),
            "replay_bytes": self.replay_bytes,
            "any_method": self.any_method,
            "lost": self.lost,
            "statuses": self.statuses,
        }
