"""Chooser: runs the hook `certificate` of a proxy during handshakes."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from pingora.tls.certificate import Certificate
from pingora.tls.server import TlsSettings
from pingora_c.net.tls_hello import ClientHello
from pingora_c.net.tls_server import HostContext

log = logging.getLogger("pingora")

CONTEXTS_MAX = 1024  # contexts of certificates that hooks gave; beyond, the oldest are made anew

Start = Callable[[Coroutine[Any, Any, HostContext | None]], "asyncio.Task[HostContext | None]"]


class Chooser:
    """What the core calls with each client's hello. `start` makes a task of what the hook awaits."""

    def __init__(self, hook: Callable[[ClientHello], Any], settings: TlsSettings, start: Start):
        self._hook = hook
        self._settings = settings
        self._start = start
        self._made: dict[tuple[Certificate, Any], HostContext] = {}

    def __call__(self, hello: ClientHello) -> "HostContext | asyncio.Task[HostContext | None] | None":
        """Give the context of the hook's certificate, None for the listener's own, or a task that does."""
        try:
            result = self._hook(hello)
            if inspect.iscoroutine(result):
                return self._start(self._wait(hello, result))
            return self._context(hello, result)
        except Exception:
            log.exception("hook certificate raised for %r", hello)
            raise

    async def _wait(self, hello: ClientHello, coroutine: Any) -> HostContext | None:
        try:
            return self._context(hello, await coroutine)
        except Exception:
            log.exception("hook certificate raised for %r", hello)
            raise

    def _context(self, hello: ClientHello, result: Any) -> HostContext | None:
        if result is None:
            return None
        if not isinstance(result, Certificate):
            raise TypeError(f"certificate: expected a Certificate or None, got {result!r}")
        policy = self._settings.policy_for(hello.server_name)
        context = self._made.get((result, policy))
        if context is None:
            if len(self._made) >= CONTEXTS_MAX:
                del self._made[next(iter(self._made))]
            context = self._made[result, policy] = self._settings.host_context(result, policy)
        return context
