"""Metrics of your own: counters, gauges and histograms that hooks count in, added up over all workers.

    from pingora import metrics

    hits = metrics.Counter("cache_hits_total", "Requests answered from the cache.", labels=["kind"])
    hits.labels("page").inc()

They appear where `metrics = "addr"` says, beside pingora's own. Make them when the program is loaded, not per request.
What a worker has counted stays when it ends; a gauge goes with its worker. Count on the thread of the event loop.
"""

import bisect
import json
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar, Generic, TypeVar

from pingora.observe.collected import family_key
from pingora.observe.families import LATENCY_S, OF_COLLECTOR, Family
from pingora_c.stats.counters import Counters
from pingora_c.stats.reading import KINDS, records_of

__all__ = ["Counter", "Gauge", "Histogram"]

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
RESERVED = ("pingora_", "process_", "python_")
FAMILIES_MOST = 500  # of a program
LABELS_MOST = 10  # of a metric
BORDERS_MOST = 200
VALUE_BYTES = 200  # of a label; longer values are cut
OTHER = "_other"


class Place:
    """Where this process counts what a user's metrics say: numbers of its own until `use` gives others."""

    def __init__(self) -> None:
        self._counters: Counters | None = None
        self.epoch = 0  # goes up when words that metrics remember are no longer theirs
        self._declared: set[str] = set()
        self._lock = threading.Lock()

    @property
    def counters(self) -> Counters:
        """The numbers of this process."""
        if self._counters is None:
            self._counters = Counters()
        return self._counters

    @property
    def is_used(self) -> bool:
        """Whether anything was counted here."""
        return self._counters is not None

    def use(self, counters: Counters | None) -> None:
        """Count there from now on. Gauges that were set while the program was loaded go with us."""
        before, self._counters = self._counters, counters
        self.epoch += 1
        self._declared = set()
        if before is not None and counters is not None:
            doubles = memoryview(before.memory).cast("B").cast("d")
            records = records_of(before.memory)
            for kind, key, _, size in records:
                if kind == KINDS["family"]:
                    counters.record_at(kind, key, size)
            for kind, key, at, size in records:
                if kind == KINDS["user_gauge"]:
                    counters.set_double(counters.record_at(kind, key, size), doubles[at])

    def record(self, family: Family, kind: str, labels: tuple[str, ...], n_cells: int) -> int:
        """Give the word of the first cell of a metric with some labels."""
        with self._lock:
            if family.name not in self._declared:
                self.counters.record_at(KINDS["family"], family_key(family), 0)
                self._declared.add(family.name)
            return self.counters.record_at(KINDS[kind], json.dumps([family.name, *labels]).encode(), n_cells)


place = Place()
families: dict[str, Family] = {}


class Child:
    """A metric with the values of its labels."""

    KIND: ClassVar[str]

    def __init__(self, family: Family, values: tuple[str, ...]) -> None:
        self._family = family
        self._values = values
        self._epoch = -1
        self._word = 0

    def _at(self) -> int:
        if self._epoch != place.epoch:
            n_cells = len(self._family.borders) + 2 if self.KIND == "user_histogram" else 1
            self._word = place.record(self._family, self.KIND, self._values, n_cells)
            self._epoch = place.epoch
        return self._word


class CounterChild(Child):
    """A counter with the values of its labels."""

    KIND = "user_counter"

    def inc(self, amount: float = 1) -> None:
        """Count. Raises ValueError for less than nothing."""
        if not 0 <= amount < float("inf"):
            raise ValueError(f"{self._family.name}: a counter only grows, got {amount!r}")
        place.counters.add_double(self._at(), amount)


class GaugeChild(Child):
    """A gauge with the values of its labels."""

    KIND = "user_gauge"

    def set(self, value: float) -> None:
        """Say what it is now."""
        place.counters.set_double(self._at(), value)

    def inc(self, amount: float = 1) -> None:
        """Go up."""
        place.counters.add_double(self._at(), amount)

    def dec(self, amount: float = 1) -> None:
        """Go down."""
        place.counters.add_double(self._at(), -amount)


class HistogramChild(Child):
    """A histogram with the values of its labels."""

    KIND = "user_histogram"

    def observe(self, value: float) -> None:
        """Count a value."""
        at, borders = self._at(), self._family.borders
        counters = place.counters
        counters.add_double(at + bisect.bisect_left(borders, value), 1)
        counters.add_double(at + len(borders) + 1, value)

    @contextmanager
    def time(self) -> Iterator[None]:
        """Count the seconds that a `with` block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - started)


Kind = TypeVar("Kind", bound=Child)


class Metric(Generic[Kind]):
    """What the three kinds have in common."""

    CHILD: type[Kind]

    def __init__(self, family: Family, most: int) -> None:
        known = families.setdefault(family.name, family)
        if known != family:
            raise ValueError(f"metric {family.name!r}: there is another one of this name")
        if len(families) > FAMILIES_MOST:
            del families[family.name]
            raise ValueError(f"metric {family.name!r}: there are {FAMILIES_MOST} already")
        self._family = family
        self._most = most
        self._children: dict[tuple[str, ...], Kind] = {}

    @property
    def name(self) -> str:
        """The name."""
        return self._family.name

    def labels(self, *values: object, **named: object) -> Kind:
        """Give the metric with values of its labels, in their order or by name; keep it where it is used often.

        Beyond `most` different ones, all others are counted together, with "_other" in every label.
        """
        names = self._family.labels
        if named:
            if values or set(named) != set(names):
                raise ValueError(f"{self.name}: expected the labels {', '.join(names)}")
            values = tuple(named[name] for name in names)
        found = self._children.get(values)  # type: ignore[arg-type]  # most often they are texts
        return found if found is not None else self._new_child(values)

    def _new_child(self, values: tuple[object, ...]) -> Kind:
        if len(values) != len(self._family.labels):
            raise ValueError(f"{self.name}: expected the labels {', '.join(self._family.labels) or 'none'}")
        texts = tuple(cut(str(value)) for value in values)
        if texts not in self._children and len(self._children) >= self._most:
            texts = (OTHER,) * len(texts)
        if texts not in self._children:
            self._children[texts] = self.CHILD(self._family, texts)
        return self._children[texts]


class Counter(Metric[CounterChild]):
    """A number that only grows. Its name ends in _total, which is added if it lacks.

    `labels` are names of labels, `most` how many sets of their values there may be. Raises ValueError for a name that
    will not do, or that another metric has.
    """

    CHILD = CounterChild

    def __init__(self, name: str, text: str, *, labels: Iterable[str] = (), most: int = 100) -> None:
        name = name if name.endswith("_total") else f"{name}_total"
        super().__init__(checked(Family(name, "counter", text, names_of(name, labels)), most), most)

    def inc(self, amount: float = 1) -> None:
        """Count, without labels."""
        self.labels().inc(amount)


class Gauge(Metric[GaugeChild]):
    """A number that goes up and down. Like Counter.

    `across` says what is shown of several workers: "sum", "max" or "min". Raises as Counter does.
    """

    CHILD = GaugeChild

    def __init__(
        self, name: str, text: str, *, labels: Iterable[str] = (), most: int = 100, across: str = "sum"
    ) -> None:
        if across not in ("sum", "max", "min"):
            raise ValueError(f"metric {name!r}: across: expected sum, max or min, got {across!r}")
        super().__init__(checked(Family(name, "gauge", text, names_of(name, labels), across=across), most), most)

    def set(self, value: float) -> None:
        """Say what it is now, without labels."""
        self.labels().set(value)

    def inc(self, amount: float = 1) -> None:
        """Go up, without labels."""
        self.labels().inc(amount)

    def dec(self, amount: float = 1) -> None:
        """Go down, without labels."""
        self.labels().dec(amount)


class Histogram(Metric[HistogramChild]):
    """How often values were at most each of `buckets`, by default those of durations in seconds. Like Counter.

    Raises as Counter does, and for buckets that do not rise.
    """

    CHILD = HistogramChild

    def __init__(
        self,
        name: str,
        text: str,
        *,
        labels: Iterable[str] = (),
        most: int = 100,
        buckets: Iterable[float] = LATENCY_S,
    ) -> None:
        borders = tuple(float(border) for border in buckets)
        rises = all(low < high for low, high in zip(borders, (*borders[1:], float("inf")), strict=False))
        if not borders or not rises or len(borders) > BORDERS_MOST:
            raise ValueError(f"metric {name!r}: buckets: expected 1 to {BORDERS_MOST} rising numbers")
        super().__init__(checked(Family(name, "histogram", text, names_of(name, labels), borders), most), most)

    def observe(self, value: float) -> None:
        """Count a value, without labels."""
        self.labels().observe(value)

    def time(self) -> AbstractContextManager[None]:
        """Count the seconds that a `with` block takes, without labels."""
        return self.labels().time()


def names_of(name: str, labels: Iterable[str]) -> tuple[str, ...]:
    """Give the names of a metric's labels. Raises TypeError for a text, whose letters would be names."""
    if isinstance(labels, str):
        raise TypeError(f"metric {name!r}: expected names of labels, got {labels!r}; write labels=[{labels!r}]")
    return tuple(labels)


def checked(family: Family, most: int) -> Family:
    """Give a metric whose names will do. Raises ValueError."""
    if not NAME.fullmatch(family.name) or family.name.startswith(RESERVED):
        reserved = ", ".join(f"{prefix}*" for prefix in RESERVED)
        raise ValueError(f"metric {family.name!r}: expected letters, digits and _, and none of {reserved}")
    if family.kind != "counter" and family.name.endswith(("_total", "_bucket", "_count", "_sum", "_info", "_created")):
        raise ValueError(f"metric {family.name!r}: such an end means another kind of metric")
    for label in family.labels:
        if not NAME.fullmatch(label) or label.startswith("__") or label == "le":
            raise ValueError(f"metric {family.name!r}: {label!r} is no name for a label")
    if len(family.labels) > LABELS_MOST or len(set(family.labels)) != len(family.labels):
        raise ValueError(f"metric {family.name!r}: expected at most {LABELS_MOST} labels, each once")
    if not 1 <= most <= 10_000:
        raise ValueError(f"metric {family.name!r}: most: expected 1 to 10000, got {most!r}")
    if len(family_key(family)) > 4000:
        raise ValueError(f"metric {family.name!r}: its text is too long")
    return family


def cut(text: str) -> str:
    """Make the value of a label short enough."""
    return text.encode(errors="replace")[:VALUE_BYTES].decode(errors="ignore")


def pauses_of(generation: int) -> HistogramChild:
    """Where the runs of the garbage collector are counted."""
    return HistogramChild(OF_COLLECTOR, (str(generation),))
