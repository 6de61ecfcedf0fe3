"""When a worker that died is started again.

One that died before it served waits longer and longer: it will likely die again. One that served is replaced at once,
unless the same place saw several deaths in a short time.
"""

import time
from collections import deque

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
DEATHS_MOST = 5  # of workers that served, within WINDOW_S, before the next one waits
WINDOW_S = 10.0
CRASH_DELAY_S = 1.0


class Backoff:
    """The deaths of one worker's place."""

    def __init__(self) -> None:
        self._delay_s = 0.0
        self.n_failed = 0  # since it served last
        self._deaths: deque[float] = deque(maxlen=DEATHS_MOST)

    def delay_after(self, has_served: bool) -> float:
        """Note a death now; give the seconds to wait."""
        if not has_served:
            self.n_failed += 1
            self._delay_s = min(max(2 * self._delay_s, FIRST_DELAY_S), LONGEST_DELAY_S)
            return self._delay_s
        self._delay_s = 0.0
        self.n_failed = 0
        now = time.monotonic()
        self._deaths.append(now)
        is_often = len(self._deaths) == DEATHS_MOST and now - self._deaths[0] < WINDOW_S
        return CRASH_DELAY_S if is_often else 0.0
