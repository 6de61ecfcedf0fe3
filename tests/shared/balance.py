"""In a debug or asan build, where the core counts its living objects: a test that leaves some behind fails."""

import gc
import importlib
import time

import pytest

from pingora_c import core
from pingora_c.base import lifetimes
from pingora_c.http import header_block
from pingora_c.mem import buffer_pool

KEPT = {"TicketKeys"}  # by pingora.tls.server, one for each lifetime of tickets, until the process ends
PATIENCE_S = 5  # for threads of the test that end by themselves


def count_all():
    """Let every class of the core be counted from now on."""
    modules = [importlib.import_module(name) for name in core.names()]  # all classes are made before one is counted
    for module in modules:
        for thing in vars(module).values():
            if isinstance(thing, type) and thing.__module__ == module.__name__ and thing.__name__ not in KEPT:
                lifetimes.count(thing)


def living():
    """How many there are: by class, header blocks with memory, and buffers that the pool has lent."""
    lent = sum(buffer_pool.stats()["lent"].values())
    return {**lifetimes.living(), "HeaderBlock": header_block.n_with_memory(), "buffer of the pool": lent}


def left_behind(before):
    """What lives beyond `before`, once the garbage is collected and what ends by itself has ended."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        more = {kind: n - before[kind] for kind, n in living().items() if n > before[kind]}
        if not more or time.monotonic() > give_up:
            return more
        gc.collect()
        time.sleep(0.01)


class Balance:
    """The pytest plugin: compares before the set-up of each test and behind the last of its tear-down."""

    def __init__(self):
        count_all()
        self._before = {}
        self._failed = False  # a failed test keeps its frames

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self):
        self._before = living()
        self._failed = False
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self):
        report = yield
        self._failed = self._failed or report.failed
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item):
        result = yield
        if not self._failed:
            item.funcargs.clear()  # pytest itself lets them go a moment later
            more = left_behind(self._before)
            assert not more, f"the test left objects of the core behind: {more}"
        return result
