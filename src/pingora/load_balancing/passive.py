"""PassiveHealth: when failures of requests take an endpoint out of selection."""

from dataclasses import dataclass

from pingora.retry import check_statuses
from pingora_c.upstream.endpoint import FailureRules

DAY = 86400


@dataclass(frozen=True)
class PassiveHealth:
    """When failures take an endpoint out of selection, and for how long; times in seconds.

    A failure is a connect that fails, an answer that does not come or breaks off, and one of `statuses`. What failed
    `failures` times in a row within `window` is left out for `back_off`. Then one request tries it: its answer brings
    the endpoint in again, its failure doubles the time, up to `longest_back_off`. While all are out, all are tried.
    Each worker finds this out by itself.
    """

    failures: int = 3  # 0: never
    window: float = 10.0
    back_off: float = 10.0
    longest_back_off: float = 120.0
    statuses: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for what makes no sense."""
        if isinstance(self.failures, bool) or not isinstance(self.failures, int) or not 0 <= self.failures <= 1000:
            raise ValueError(f"failures: expected 0 to 1000, got {self.failures!r}")
        for name in ("window", "back_off", "longest_back_off"):
            seconds = getattr(self, name)
            if not 0.001 <= seconds <= DAY:
                raise ValueError(f"{name}: expected 0.001 to {DAY} seconds, got {seconds!r}")
        check_statuses(self.statuses)

    def for_core(self) -> FailureRules | None:
        """Give the rules of the core."""
        if not self.failures:
            return None
        longest = max(self.back_off, self.longest_back_off)
        return FailureRules(
            self.failures, round(self.window * 1000), round(self.back_off * 1000), round(longest * 1000), self.statuses
        )
