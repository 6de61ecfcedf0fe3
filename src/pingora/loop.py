"""The event loop of a worker: asyncio's own with the core doing the waiting, or uvloop for hooks that await."""

import asyncio
import inspect
import selectors
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from pingora.proxy import ProxyHttp, all_hooks
from pingora.tcp import TcpProxy
from pingora_c.net.reactor import Reactor
from pingora_c.stats.counters import Counters

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class CoreSelector(selectors.EpollSelector):
    """Waits for the loop's descriptors inside the wait of a reactor, as soon as there is one.

    The loop hears only of what is its own: while nothing of Python is due, the core goes from wait to wait by itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reactor: Reactor | None = None
        self._loop: Any = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As of the base class; `timeout` is in seconds, None waits without end."""
        reactor, loop = self.reactor, self._loop
        if reactor is None or reactor.is_closed:
            return super().select(timeout)
        # Callbacks that are due and timers are asyncio's private lists, under these names since Python 3.4; the public
        # ways to learn of them would cost a call for each.
        if reactor.wait(loop._ready, loop._scheduled, timeout):
            return super().select(0)
        return []

    def lead(self, loop: asyncio.AbstractEventLoop, reactor: Reactor) -> None:
        """Let `reactor` wait for this selector of `loop`."""
        self.reactor, self._loop = reactor, loop


class Loop(asyncio.SelectorEventLoop):
    """An asyncio loop that a reactor can wait for."""

    def __init__(self) -> None:
        self.selector = CoreSelector()
        super().__init__(self.selector)


def new_reactor(loop: asyncio.AbstractEventLoop, counters: Counters | None) -> Reactor:
    """A reactor that waits for `loop` if that is a Loop which has none yet, otherwise one nested in it."""
    if not isinstance(loop, Loop) or not (loop.selector.reactor is None or loop.selector.reactor.is_closed):
        return Reactor(loop, counters)
    reactor = Reactor(loop, counters, loop.selector.fileno())
    loop.selector.lead(loop, reactor)
    return reactor


def loop_for(proxies: Iterable[ProxyHttp | TcpProxy]) -> LoopFactory:
    """Choose what makes the loop that these proxies' hooks cost least on.

    A Loop spares the core a wait within a wait, but what hooks await costs more on asyncio's own loop: a request to
    another server takes 98,000 instructions, on uvloop 70,000.
    """
    if any(inspect.iscoroutinefunction(hook) for proxy in proxies for hook in all_hooks(proxy)):
        import uvloop  # only here: it takes a mebibyte

        return uvloop.new_event_loop
    return Loop


def run(loop_factory: LoopFactory, main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end on a loop of its own, which `loop_factory` makes."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main)
