"""The policy of the cyclic garbage collector in a worker process.

Frozen after start-up, so that a run looks only at what requests made. Young generations run by allocation count. The
oldest one, whose run takes as long as there are objects, runs between two ticks: when the worker is idle, and at the
latest when the process has grown or time has passed. How long each run held the loop is a metric.
"""

import asyncio
import gc
import logging
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger("pingora.collector")

YOUNG = 5000, 10  # objects made before a run of generation 0, and those runs before one of generation 1
NEVER = 2**31 - 1
GROWTH_BYTES = 64 << 20
LATEST_S = 10.0
LOOK_S = 0.5  # between two looks at whether the worker is idle
LONG_PAUSE_S = 0.1
REPORT_EVERY_S = 60.0  # at most one warning in this time
BYTES_PER_BLOCK = 80  # of memory per allocated block: 91 measured for kept exceptions, less for small objects
PAUSES_NAME = "pingora_collector_pause_seconds"
BOUNDS_S = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5)


class Pauses:
    """How long the runs of one generation held the loop: a histogram with a bucket per bound, and one above all."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.longest_s = 0.0
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.observe: Callable[[float], None] | None = None  # told of each as well

    def add(self, seconds: float) -> None:
        """Count one pause."""
        if self.observe is not None:
            self.observe(seconds)
        self.count += 1
        self.total_s += seconds
        self.longest_s = max(self.longest_s, seconds)
        self.buckets[sum(seconds > bound for bound in BOUNDS_S)] += 1

    def counters(self, generation: int) -> dict[str, float]:
        """Return the histogram of Prometheus: each bucket counts those of the buckets below it too."""
        counted: dict[str, float] = {}
        total = 0
        for bound, n in zip((*BOUNDS_S, "+Inf"), self.buckets, strict=True):
            total += n
            counted[f'{PAUSES_NAME}_bucket{{generation="{generation}",le="{bound}"}}'] = total
        counted[f'{PAUSES_NAME}_count{{generation="{generation}"}}'] = self.count
        counted[f'{PAUSES_NAME}_sum{{generation="{generation}"}}'] = self.total_s
        return counted


def resident_bytes() -> int:
    """Return the memory that the process has in RAM; 0 where /proc is not there."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


class Collector:
    """Decides when the garbage collector of this process runs, from `start` to `stop`.

    `activity` gives the number of requests so far and of those that run now. `pauses` has one entry per generation.
    """

    def __init__(
        self,
        activity: Callable[[], tuple[int, int]],
        *,
        growth_bytes: int = GROWTH_BYTES,
        latest_s: float = LATEST_S,
        look_s: float = LOOK_S,
    ) -> None:
        self.pauses = (Pauses(), Pauses(), Pauses())
        self._activity = activity
        self._growth_bytes = growth_bytes
        self._latest_s = latest_s
        self._look_s = look_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thresholds = gc.get_threshold()
        self._began_at = 0.0
        self._reported_at = float("-inf")
        self._is_asked_for = False  # a full run waits for its turn on the loop

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Freeze what there is and take over. A program that has switched the collector off keeps it off."""
        if not gc.isenabled():
            return
        self._loop = loop
        self._thresholds = gc.get_threshold()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*YOUNG, NEVER)
        self._note_full_run()
        self._seen = self._activity()
        gc.callbacks.append(self._on_run)
        self._timer = loop.call_later(self._look_s, self._look)

    def stop(self) -> None:
        """Give the collector back as it was; may be called twice."""
        if self._loop is None:
            return
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
        gc.callbacks.remove(self._on_run)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def run(self) -> None:
        """Run all generations now."""
        self._is_asked_for = False
        if self._loop is not None:
            gc.collect()
            self._note_full_run()

    def counters(self) -> dict[str, float]:
        """Return the pauses of all generations, by Prometheus name with labels."""
        counted: dict[str, float] = {}
        for generation, pauses in enumerate(self.pauses):
            counted |= pauses.counters(generation)
        return counted

    def _note_full_run(self) -> None:
        self._full_at = time.monotonic()
        self._full_requests = self._activity()[0]
        self._full_resident = resident_bytes()
        self._full_blocks = sys.getallocatedblocks()
        self._young_runs = 0

    def _look(self) -> None:
        """On the loop, now and then: run if there may be garbage and the worker is idle or has put it off too long."""
        if self._loop is None:
            return
        seen, self._seen = self._seen, self._activity()
        n_requests, n_active = self._seen
        if self._young_runs or n_requests != self._full_requests:
            is_idle = n_active == 0 and self._seen == seen
            if is_idle or time.monotonic() - self._full_at >= self._latest_s or self._has_grown():
                self.run()
        self._timer = self._loop.call_later(self._look_s, self._look)

    def _has_grown(self) -> bool:
        # Blocks too: memory that an earlier run set free stays with the process and is filled again unseen.
        blocks = sys.getallocatedblocks() - self._full_blocks
        return max(blocks * BYTES_PER_BLOCK, resident_bytes() - self._full_resident) >= self._growth_bytes

    def _on_run(self, phase: str, info: dict[str, Any]) -> None:
        """Time a run; called by the interpreter, on whichever thread allocates."""
        if phase == "start":
            self._began_at = time.perf_counter()
            return
        pause_s = time.perf_counter() - self._began_at
        generation = info["generation"]
        self.pauses[generation].add(pause_s)
        if pause_s >= LONG_PAUSE_S and self._began_at - self._reported_at >= REPORT_EVERY_S:
            self._reported_at = self._began_at
            # Not here: a log handler may allocate, wait or raise.
            self._on_loop(self._report, pause_s, generation, info["collected"])
        if generation < 2:
            self._young_runs += 1
        if generation == 1 and not self._is_asked_for and self._has_grown():
            self._is_asked_for = True
            self._on_loop(self.run)

    def _on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _report(self, pause_s: float, generation: int, collected: int) -> None:
        log.warning(
            "the garbage collector held the loop for %.2f s (generation %d, %d objects freed): "
            "do hooks keep many objects, or exceptions with their tracebacks?",
            pause_s,
            generation,
            collected,
        )
