"""What a reload has replaced and what may still be at work: plans with their last sessions, services, proxy objects.

Also how a proxy object starts and ends in a worker.
"""

import asyncio
import functools
import inspect
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from pingora_c.proxy.plan import Plan
from pingora_c.proxy.service import ProxyService

if TYPE_CHECKING:
    from pingora.proxy import ProxyHttp
    from pingora.serving import Serving
    from pingora.tcp import TcpProxy

log = logging.getLogger("pingora")

SWEEP_S = 1.0  # between two looks at whether a service that was taken out has connections left
WORKER_START_S = 10.0  # that a proxy's worker_start takes before it is told
WORKER_STOP_S = 5.0  # that a proxy's worker_stop may take, and its close


class Replaced:
    """What no session begins on any more but some may still run on: plans, and services of sites that are gone.

    Calls `close()` of a proxy object once neither the present server nor a running session has it.
    """

    def __init__(self, serving: "Serving") -> None:
        self._serving = serving
        self._plans: list[Plan] = []
        self._services: list[ProxyService] = []
        self._ending: set[asyncio.Task[Any]] = set()
        self._awaiting: dict[asyncio.Task[Any], Any] = {}  # hooks outside a session -> their proxy

    def adopt(self, service: ProxyService, plan: Plan) -> None:
        """Give a service another plan, and wait for the end of what runs on the one before."""
        before = service.plan
        self._plans.append(before)
        service.adopt(plan, functools.partial(self._on_idle, before))

    def start_hook(self, proxy: Any, hook: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run what a hook outside a session awaits; its proxy is not let go before."""
        task = self._serving.loop.create_task(hook)
        if self._is_used(proxy):  # else it was let go while a client of it was slow to begin its handshake
            self._awaiting[task] = proxy
            task.add_done_callback(lambda task: self._let_go(self._awaiting.pop(task)))
        return task

    def _on_idle(self, plan: Plan) -> None:
        if plan in self._plans:  # else `finish` was first
            self._plans.remove(plan)
            self._let_go(plan.proxy)

    def take_out(self, service: ProxyService) -> None:
        """Let a service end: no new connections; each of the open ones ends after its next answer, or when idle."""
        if service not in self._services:
            service.stop_listening()
            self._services.append(service)
            self._sweep(service)

    def _sweep(self, service: ProxyService) -> None:
        if service.n_connections and service in self._serving.services:
            self._serving.loop.call_later(SWEEP_S, self._sweep, service)
            return
        self._services.remove(service)
        if service in self._serving.services:
            self._serving.services.remove(service)
        self._let_go(service.plan.proxy)

    def _let_go(self, proxy: Any) -> None:
        """Close a proxy object if nobody has it any more."""
        if not self._is_used(proxy):
            self.end(proxy)

    def _is_used(self, proxy: Any) -> bool:
        users: list[object] = [site.proxy for site in self._serving.server.sites]
        users += [plan.proxy for plan in self._plans]
        users += [service.plan.proxy for service in self._services]
        users += self._awaiting.values()
        return any(proxy is user for user in users)

    def end(self, proxy: Any, *, is_started: bool = True, is_closed: bool = True) -> None:
        """Call `worker_stop` and `close()` of a proxy object that serves nothing; each only if it is due."""
        task = self._serving.loop.create_task(end_proxy(proxy, is_started, is_closed))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def finish(self) -> None:
        """Let go of all that is left: its sessions were cut."""
        if self._awaiting:
            await asyncio.wait(self._awaiting, timeout=WORKER_STOP_S)
        for proxy in {id(plan.proxy): plan.proxy for plan in self._plans}.values():
            self._plans = [plan for plan in self._plans if plan.proxy is not proxy]
            self._let_go(proxy)
        if self._ending:
            await asyncio.wait(self._ending)


async def end_proxy(proxy: "ProxyHttp | TcpProxy", is_started: bool, is_closed: bool) -> None:
    """Call `worker_stop` and `close()`, each if it is due."""
    if is_started:
        await stop_proxy(proxy)
    if is_closed:
        await close_proxy(proxy)


async def start_proxy(proxy: "ProxyHttp | TcpProxy") -> None:
    """Await `worker_start`, and tell of one that takes long: whoever waits for the server would not know why."""
    told = "%s.worker_start has not returned after %g s; clients are not accepted before it has"
    late = asyncio.get_running_loop().call_later(
        WORKER_START_S, log.warning, told, type(proxy).__name__, WORKER_START_S
    )
    try:
        await proxy.worker_start()
    finally:
        late.cancel()


async def stop_proxy(proxy: "ProxyHttp | TcpProxy") -> None:
    """Let a proxy end what its worker_start began; what goes wrong is logged."""
    try:
        await asyncio.wait_for(proxy.worker_stop(), WORKER_STOP_S)
    except Exception:
        log.exception("%s.worker_stop failed", type(proxy).__name__)


async def close_proxy(proxy: "ProxyHttp | TcpProxy") -> None:
    """Call `close()` of a proxy; what goes wrong is logged."""
    try:
        result = proxy.close()
        if inspect.isawaitable(result):
            await asyncio.wait_for(result, WORKER_STOP_S)
    except Exception:
        log.exception("%s.close failed", type(proxy).__name__)
