"""What a run measured, in a shape that goes to JSON and comes back."""

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .load import Load
from .measure import CpuTime


@dataclass(frozen=True)
class Sample:
    """One peer in one round of one workload. `parent_ns` is the CPU time of a supervising process."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    cpu_ns: int
    user_ns: int
    system_ns: int
    parent_ns: int

    @classmethod
    def of(cls, load: Load, cpu: CpuTime, parent: CpuTime) -> "Sample":
        return cls(
            requests=load.requests,
            seconds=load.seconds,
            p50_us=load.p50_us,
            p99_us=load.p99_us,
            cpu_ns=cpu.total_ns,
            user_ns=cpu.user_ns,
            system_ns=cpu.system_ns,
            parent_ns=parent.total_ns,
        )

    @property
    def cpu_us_per_request(self) -> float:
        return self.cpu_ns / self.requests / 1e3

    @property
    def user_us_per_request(self) -> float:
        """The ticks only tell the shares; the exact total is divided by them."""
        ticked = self.user_ns + self.system_ns
        return self.cpu_us_per_request * (self.user_ns / ticked if ticked else 0.0)

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def busy_share(self) -> float:
        """The part of its CPU that the proxy used; below 1 the load generator or the origin was the limit."""
        return self.cpu_ns / 1e9 / self.seconds


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high)


Rounds = list[Sample | None]  # None: the load generator met errors in this round


@dataclass
class Results:
    """`rows`: row -> peer -> values of its repetitions, for all that is no workload. `skipped`: what -> why."""

    machine: dict[str, str] = field(default_factory=dict)
    workloads: dict[str, dict[str, Rounds]] = field(default_factory=dict)
    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, row: str, peer: str, value: float) -> None:
        self.rows.setdefault(row, {}).setdefault(peer, []).append(value)

    def value(self, row: str, peer: str) -> float | None:
        """Return the median of a row, None if it was not measured."""
        values = self.rows.get(row, {}).get(peer)
        return Spread.of(values).median if values else None

    def samples(self, workload: str, peer: str) -> list[Sample]:
        return [sample for sample in self.workloads.get(workload, {}).get(peer, []) if sample]

    def ratio(self, workload: str, peer: str, to: str) -> Spread | None:
        """Return the spread of CPU per request of `peer` to that of `to`, paired round by round."""
        rounds = self.workloads.get(workload, {})
        pairs = zip(rounds.get(peer, []), rounds.get(to, []), strict=False)
        ratios = [ours.cpu_us_per_request / theirs.cpu_us_per_request for ours, theirs in pairs if ours and theirs]
        return Spread.of(ratios) if ratios else None

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Results":
        stored: dict[str, Any] = json.loads(path.read_text())
        for peers in stored["workloads"].values():
            for peer, rounds in peers.items():
                peers[peer] = [Sample(**sample) if sample else None for sample in rounds]
        return cls(**stored)


def describe_machine() -> dict[str, str]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = models[0].partition(":")[2].strip() if models else platform.machine()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{cpu}, {os.cpu_count()} CPUs",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }
