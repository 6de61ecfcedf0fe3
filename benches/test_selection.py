"""Choosing an endpoint: `Balancer.select` beside the same algorithms in pure Python.

Each row chooses ROUNDS times. Before it is measured, both sides must choose alike.
"""

import zlib
from bisect import bisect_left

import pytest

from pingora_c.upstream.balancer import Balancer
from pingora_c.upstream.endpoint import Endpoint
from pingora_c.upstream.select.ketama import Ketama
from pingora_c.upstream.select.round_robin import RoundRobin

ROUNDS = 1000
KEYS = [b"user-%d" % (i * 7919) for i in range(ROUNDS)]


class PlainEndpoint:
    """What a selection needs to know of an endpoint."""

    __slots__ = ("current", "is_available", "slot", "weight")

    def __init__(self, slot: int, weight: int) -> None:
        self.slot = slot
        self.weight = weight
        self.current = 0
        self.is_available = True


class Rotation:
    """Round robin of equal weights."""

    def __init__(self, endpoints: list[PlainEndpoint]) -> None:
        self.endpoints = endpoints
        self.next = 0

    def select(self, key: bytes) -> PlainEndpoint:
        for _ in self.endpoints:
            endpoint = self.endpoints[self.next]
            self.next = (self.next + 1) % len(self.endpoints)
            if endpoint.is_available:
                return endpoint
        raise LookupError


class SmoothWeighted:
    """The smooth weighted round robin of nginx."""

    def __init__(self, endpoints: list[PlainEndpoint]) -> None:
        self.endpoints = endpoints

    def select(self, key: bytes) -> PlainEndpoint:
        total, best = 0, None
        for endpoint in self.endpoints:
            if endpoint.is_available:
                endpoint.current += endpoint.weight
                total += endpoint.weight
                if best is None or endpoint.current > best.current:
                    best = endpoint
        if best is None:
            raise LookupError
        best.current -= total
        return best


class BisectRing:
    """A ring of checksums in a sorted list; zlib and bisect are C."""

    def __init__(self, endpoints: list[PlainEndpoint], points: list[tuple[int, int]]) -> None:
        self.hashes = [point for point, _ in points]
        self.owners = [endpoints[slot] for _, slot in points]

    def select(self, key: bytes) -> PlainEndpoint:
        at = bisect_left(self.hashes, zlib.crc32(key)) % len(self.hashes)
        for i in range(at, at + len(self.hashes)):
            endpoint = self.owners[i % len(self.owners)]
            if endpoint.is_available:
                return endpoint
        raise LookupError


def choose(select) -> list:
    return [select(key) for key in KEYS]


def make_pair(algorithm: str, count: int):
    """The balancer and its counterpart."""
    weights = [1 + i % 5 if algorithm == "weighted" else 1 for i in range(count)]
    endpoints = [Endpoint(f"10.0.0.{i}:80", weight) for i, weight in enumerate(weights)]
    balancer = Balancer(endpoints, Ketama() if algorithm == "ketama" else RoundRobin())
    plain = [PlainEndpoint(i, weight) for i, weight in enumerate(weights)]
    if algorithm == "ketama":
        return balancer, BisectRing(plain, balancer.selection.points())
    return balancer, (SmoothWeighted if algorithm == "weighted" else Rotation)(plain)


@pytest.mark.parametrize("who", ["ours", "plain"])
@pytest.mark.parametrize("count", [3, 100])
@pytest.mark.parametrize("algorithm", ["equal", "weighted", "ketama"])
def test_selection(benchmark, algorithm, count, who):
    balancer, plain = make_pair(algorithm, count)
    assert [e.slot for e in choose(balancer.select)] == [e.slot for e in choose(plain.select)]
    benchmark.group = f"{ROUNDS} choices, {algorithm}, {count} endpoints"
    benchmark(choose, (balancer if who == "ours" else plain).select)
