"""What blocks of numbers say, added up: of the workers of an instance, or of the process that asks."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pingora.observe.families import FAMILIES, Family, split_name
from pingora_c.stats.histogram import HISTOGRAM_SIZE, bucket_index, cumulated
from pingora_c.stats.reading import COUNTERS_AT, KINDS, records_of

KIND_NAMES = {number: name for name, number in KINDS.items()}
MICRO = 1_000_000
Labels = tuple[str, ...]


@dataclass
class Distribution:
    """A histogram: how many are at most each border, and in all; and their sum."""

    counts: list[float]
    total: float

    def add(self, counts: Iterable[float], total: float) -> None:
        """Add another one of the same borders."""
        self.counts = [mine + other for mine, other in zip(self.counts, counts, strict=True)]
        self.total += total


@dataclass
class Collected:
    """Metrics by name: what they are, and their values by labels."""

    families: dict[str, Family] = field(default_factory=lambda: dict(FAMILIES))
    values: dict[str, dict[Labels, float]] = field(default_factory=dict)
    distributions: dict[str, dict[Labels, Distribution]] = field(default_factory=dict)

    def add(self, name: str, value: float, labels: Labels = ()) -> None:
        """Add a value to what is there, in the way of its metric."""
        of_name = self.values.setdefault(name, {})
        across = self.families[name].across
        if labels not in of_name or across == "sum":
            of_name[labels] = of_name.get(labels, 0) + value
        else:
            of_name[labels] = (max if across == "max" else min)(of_name[labels], value)

    def add_distribution(self, name: str, labels: Labels, counts: Iterable[float], total: float) -> None:
        """Add a histogram to what is there."""
        of_name = self.distributions.setdefault(name, {})
        if labels not in of_name:
            of_name[labels] = Distribution([0] * (len(self.families[name].borders) + 1), 0.0)
        of_name[labels].add(counts, total)

    def add_block(self, memory: Any, schema: Mapping[str, Any], has_gauges: bool = True) -> None:
        """Add what a block says; `schema` is of the version that writes it. Gauges only if its process lives."""
        words = memoryview(memory).cast("B").cast("Q")
        for at, name in enumerate(schema["counters"], COUNTERS_AT):
            family, labels = split_name(name) if name else ("", ())
            if family in self.families and (has_gauges or self.families[family].kind != "gauge"):
                self.add(family, words[at], labels)
        records = [(KIND_NAMES[kind], key, at, size) for kind, key, at, size in records_of(memory)]
        for kind, key, _, _ in records:
            if kind == "family":
                family_read = read_family(key)
                self.families.setdefault(family_read.name, family_read)
        doubles: memoryview[float] = memoryview(memory).cast("B").cast("d")
        for kind, key, at, size in records:
            if kind in ("service", "upstream"):
                self._add_cells(words, schema[kind], key.decode(errors="replace"), at, has_gauges)
            elif kind != "family":
                self._add_users(kind, key, doubles[at : at + size], has_gauges)

    def _add_cells(self, words: memoryview, cells: Any, first: str, at: int, has_gauges: bool) -> None:
        for name, place, labels in cells:
            family = self.families.get(name)
            if family is None:
                continue
            if family.kind == "histogram":
                histogram = words[at + place : at + place + HISTOGRAM_SIZE]
                if total := histogram[-1]:
                    borders = tuple(bucket_index(round(border * MICRO)) for border in family.borders)
                    self.add_distribution(name, (first, *labels), cumulated(histogram, borders), total / MICRO)
            elif has_gauges or family.kind != "gauge":
                self.add(name, words[at + place], (first, *labels))

    def _add_users(self, kind: str, key: bytes, cells: "memoryview[float]", has_gauges: bool) -> None:
        name, *labels = json.loads(key)
        family = self.families.get(name)
        if family is None or len(labels) != len(family.labels):
            return
        if kind == "user_histogram" and len(cells) == len(family.borders) + 2:
            total, counts = 0.0, []
            for count in cells[:-1]:
                total += count
                counts.append(total)
            if total:
                self.add_distribution(name, tuple(labels), counts, cells[-1])
        elif (kind == "user_counter" or (kind == "user_gauge" and has_gauges)) and not math.isnan(cells[0]):
            self.add(name, cells[0], tuple(labels))


def family_key(family: Family) -> bytes:
    """Write a metric of the user's as the key of a record."""
    parts = [family.name, family.kind, family.text, family.labels, family.borders, family.across]
    return json.dumps(parts).encode()


def read_family(key: bytes) -> Family:
    """Undo `family_key`."""
    name, kind, text, labels, borders, across = json.loads(key)
    return Family(name, kind, text, tuple(labels), tuple(borders), across)
