"""What a proxy must have got back after a fault: clients, descriptors, memory, and its service to others."""

import os

from apart import Apart
from conversations import wait_until

ROUNDS = 3  # the first one is not measured: what is needed once is there then
MOST_SHARE, MOST_BYTES = 0.05, 2 << 20  # of memory that a fault may leave behind, whichever is more


def most_left(memory: int) -> float:
    """What may be in memory behind a fault, if it was `memory` before."""
    return memory + max(MOST_SHARE * memory, MOST_BYTES)


def assert_recovers(proxy: Apart, happen, times: int) -> None:
    """Let a fault happen again and again; then nothing of it is left."""
    repeat(happen, times)
    settle(proxy)
    memory, n_descriptors = proxy.resident_bytes(), proxy.n_descriptors() - proxy.n_upstream()
    for _ in range(1, ROUNDS):
        repeat(happen, times)
    settle(proxy)
    wait_until(lambda: proxy.n_descriptors() - proxy.n_upstream() <= n_descriptors)
    if "ASAN_OPTIONS" not in os.environ:
        wait_until(lambda: proxy.resident_bytes() <= most_left(memory))  # it looks once a second what it can give back


def repeat(happen, times: int) -> None:
    for _ in range(times):
        happen()


def settle(proxy: Apart) -> None:
    wait_until(lambda: proxy.n_clients() == 0)
    assert proxy.ask("/good").endswith(b"hello")
    wait_until(lambda: proxy.n_clients() == 0)
