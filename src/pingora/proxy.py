"""ProxyHttp: the class that users subclass. Its methods are the phases of a request."""

from typing import Any

from pingora.load_balancing import LoadBalancer
from pingora_c.http.message import RequestHead, ResponseHead
from pingora_c.proxy.failure import ProxyError
from pingora_c.proxy.plan import PHASES
from pingora_c.proxy.session import Session
from pingora_c.upstream.peer import HttpPeer


class ProxyHttp:
    """A reverse proxy. Override the phases you need, each as `def` or `async def`.

    A phase that is not overridden costs nothing.

    Set `self.upstreams` to a LoadBalancer, or override `upstream_peer`. Where a phase may return a Response, returning
    one answers the client now and None goes on. A hook that raises answers 500 (503 for NoUpstream); the connection
    and all other requests are unharmed.
    """

    upstreams: LoadBalancer | None = None

    def new_ctx(self) -> Any:
        """Make the object that the other hooks get as `ctx`.

        When: once per request, first. Returns: anything. Default: None.
        """

    def early_request_filter(self, session: Session, ctx: Any) -> Any:
        """Look at a request before anything else does. When: after `new_ctx`. Returns: None or a Response."""

    def request_filter(self, session: Session, ctx: Any) -> Any:
        """Check a request, or answer it. When: before an upstream is chosen. Returns: None or a Response."""

    def proxy_upstream_filter(self, session: Session, ctx: Any) -> Any:
        """Decide whether the request goes upstream. When: after `request_filter`. Returns: None or a Response."""

    def upstream_peer(self, session: Session, ctx: Any) -> HttpPeer | Any:
        """Choose where the request goes.

        When: once per attempt. Returns: an HttpPeer. Default: `self.upstreams` chooses, without Python.
        """

    def connected_to_upstream(self, session: Session, peer: HttpPeer, reused: bool, ctx: Any) -> Any:
        """Note the connection. When: once per attempt that has a connection. Returns: None or a Response."""

    def upstream_request_filter(self, session: Session, request: RequestHead, ctx: Any) -> Any:
        """Change what is sent upstream. May change: `request`, a copy of the client's. Returns: None or a Response."""

    def upstream_response_filter(self, session: Session, response: ResponseHead, ctx: Any) -> Any:
        """Change the answer as the upstream gave it. May change: `response`. Returns: None or a Response."""

    def response_filter(self, session: Session, response: ResponseHead, ctx: Any) -> Any:
        """Change the answer that the client gets. May change: `response`. Returns: None or a Response."""

    def fail_to_proxy(self, session: Session, error: ProxyError, ctx: Any) -> Any:
        """Choose the error page.

        When: a request failed and nothing was sent yet. Returns: None (default page) or a Response.
        """

    def logging(self, session: Session, error: ProxyError | None, ctx: Any) -> Any:
        """Log a finished request. When: last, always. Returns: nothing."""


def overridden_hooks(proxy: ProxyHttp) -> tuple[Any, ...]:
    """Give the bound methods that `proxy`'s class overrides, in the order of the core's phases; None for the others."""
    return tuple(
        getattr(proxy, name) if getattr(type(proxy), name) is not getattr(ProxyHttp, name) else None for name in PHASES
    )
