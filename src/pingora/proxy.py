"""ProxyHttp: the class that users subclass. Its methods are the phases of a request."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from pingora.hook_types import (
    Answer,
    Ctx,
    Direction,
    FilteredChunk,
    FilteredMessage,
    FilteredRequestChunk,
    MaybeAsync,
)
from pingora.load_balancing import LoadBalancer
from pingora.modules import HttpModule, combine, module_hooks
from pingora.retry import RetryPolicy
from pingora.tcp import TcpProxy
from pingora_c.http.header_map import HeaderMap
from pingora_c.http.message import RequestHead, ResponseHead
from pingora_c.net.tls_hello import ClientHello
from pingora_c.proxy.failure import ProxyError
from pingora_c.proxy.plan import PHASES
from pingora_c.proxy.response import Response
from pingora_c.proxy.session import Session
from pingora_c.proxy.tcp_session import TCP_PHASES
from pingora_c.upstream.peer import HttpPeer

if TYPE_CHECKING:
    from pingora.tls import Certificate


class ProxyHttp(Generic[Ctx]):
    """A reverse proxy. Override the phases you need, each as `def` or `async def`.

    A phase that is not overridden costs nothing.

    Set `self.upstreams` to a LoadBalancer, or override `upstream_peer`. Where a phase may return a Response, returning
    one answers the client now and None goes on. A hook that raises answers 500 (503 for NoUpstream); the connection
    and all other requests are unharmed.

    `modules` are filters that several proxies may share. `retry` says when a request is tried again. `hook_timeouts`
    gives limits of single hooks in seconds, such as `{"request_filter": 2.0}`, where they differ from
    `Limits.hook_timeout`; 0 is no limit.
    """

    upstreams: LoadBalancer = None  # type: ignore[assignment]  # chooses unless `upstream_peer` does
    modules: Sequence[HttpModule] = ()
    retry: RetryPolicy = RetryPolicy()
    hook_timeouts: ClassVar[Mapping[str, float]] = {}
    abort_on_half_close: bool = False  # a client of HTTP/1 that ends its side is gone; else it is still answered
    takes_connect: bool = False  # CONNECT opens a tunnel to where `upstream_peer` says; else it is answered 405

    def close(self) -> MaybeAsync[None]:
        """Let go of what the object holds, such as clients of other services. May be `async def`.

        When: after a change of the configuration that put another object in its place, once its last session has ended.
        """

    async def worker_start(self) -> None:
        """Make what hooks need on the worker's event loop: database pools, HTTP clients.

        When: once in each worker, before it accepts a client. One that raises ends the worker: at the start, after
        five tries, and in a reload the program is refused. Not a phase of a request.
        """

    async def worker_stop(self) -> None:
        """End what `worker_start` began. When: once in each worker, after its last session. Limit: 5 s."""

    def certificate(self, client_hello: ClientHello) -> MaybeAsync["Certificate | None"]:
        """Choose the certificate for a TLS connection.

        When: once per handshake with a client, before any request; the handshake waits if it awaits, up to
        `Limits.handshake_timeout`. Returns: a Certificate, or None for what TlsSettings says. Default: None.
        """

    def new_ctx(self) -> MaybeAsync[Ctx]:  # type: ignore[empty-body]
        """Make the object that the other hooks get as `ctx`.

        When: once per request, first. Returns: anything. Default: None.
        """

    def on_connection_reuse(self, session: Session, persisted: Any, ctx: Ctx) -> Answer:
        """Take over what `persist_connection_context` gave at the end of the client connection's last request.

        When: after `new_ctx`, only if it gave something. Returns: None or a Response.
        """

    def early_request_filter(self, session: Session, ctx: Ctx) -> Answer:
        """Look at a request before anything else does. When: after `new_ctx`. Returns: None or a Response."""

    def request_filter(self, session: Session, ctx: Ctx) -> Answer:
        """Check a request, or answer it. When: before an upstream is chosen. Returns: None or a Response."""

    def proxy_upstream_filter(self, session: Session, ctx: Ctx) -> Answer:
        """Decide whether the request goes upstream. When: after `request_filter`. Returns: None or a Response."""

    def upstream_peer(self, session: Session, ctx: Ctx) -> MaybeAsync[HttpPeer | Response]:  # type: ignore[empty-body]
        """Choose where the request goes.

        When: once per attempt. Returns: an HttpPeer, or a Response. Default: `self.upstreams` chooses, without Python.
        """

    def fail_to_connect(self, session: Session, peer: HttpPeer, error: ProxyError, ctx: Ctx) -> Answer:
        """Decide about another attempt after a connect that failed.

        When: once per such attempt. May change: `error.retry`, True by default while attempts are left. Returns: None
        or a Response.
        """

    def connected_to_upstream(self, session: Session, peer: HttpPeer, reused: bool, ctx: Ctx) -> Answer:
        """Note the connection. When: once per attempt that has a connection. Returns: None or a Response."""

    def upstream_request_filter(self, session: Session, request: RequestHead, ctx: Ctx) -> Answer:
        """Change what is sent upstream. May change: `request`, a copy of the client's. Returns: None or a Response."""

    def request_body_filter(self, session: Session, chunk: bytes, end: bool, ctx: Ctx) -> FilteredRequestChunk:
        """Change the request's body on its way upstream, which then goes out chunked.

        When: after `upstream_request_filter`, if the request has a body. Called: per chunk, then once with `end` True
        (and most often b""); again from the start if the request is tried again. Returns: None leaves the chunk as it
        is, bytes replace it, b"" drops it, a LastChunk ends the body; a Response answers if none has begun.
        """

    def upstream_response_filter(self, session: Session, response: ResponseHead, ctx: Ctx) -> Answer:
        """Change the answer as the upstream gave it. May change: `response`. Returns: None or a Response."""

    def upstream_response_body_filter(self, session: Session, chunk: bytes, end: bool, ctx: Ctx) -> FilteredChunk:
        """Change the answer's body as the upstream gave it. Like `response_body_filter`, and called before it."""

    def upstream_response_trailer_filter(self, session: Session, trailers: HeaderMap, ctx: Ctx) -> FilteredChunk:
        """Change the answer's trailer fields as the upstream gave them. Called: once, if there are any.

        Returns: None, or bytes that end the body in place of the trailers.
        """

    def response_filter(self, session: Session, response: ResponseHead, ctx: Ctx) -> Answer:
        """Change the answer that the client gets. May change: `response`. Returns: None or a Response."""

    def response_body_filter(self, session: Session, chunk: bytes, end: bool, ctx: Ctx) -> FilteredChunk:
        """Change the answer's body on its way to the client, which then goes out chunked.

        When: after `response_filter`. Called: per chunk, then once with `end` True (and most often b""). Returns: None
        leaves the chunk as it is, bytes replace it, b"" drops it, a LastChunk ends the body. Awaiting slows the answer
        down: nothing more is read meanwhile.
        """

    def response_trailer_filter(self, session: Session, trailers: HeaderMap, ctx: Ctx) -> FilteredChunk:
        """Change the trailer fields that the client gets. May change: `trailers`. Called: once, if there are any.

        Returns: None, or bytes that end the body in place of the trailers.
        """

    def websocket_message(
        self, session: Session, ctx: Ctx, direction: Direction, message: str | bytes
    ) -> FilteredMessage:
        """Look at a message of a WebSocket, or change it.

        When: after the answer to the upgrade, for each message, in order, one at a time per direction: "upstream" from
        the client, "downstream" to it. Pings pass without the hook. Returns: None leaves the message as it is, a str
        or bytes replace it, DROP drops it, a WebSocketClose closes both sides. One that raises closes both sides with
        1011. Awaiting holds up the sender. Limits: `Limits.message_bytes`, `Limits.message_fragments`.
        """

    def error_while_proxy(self, session: Session, peer: HttpPeer, error: ProxyError, reused: bool, ctx: Ctx) -> Answer:
        """Decide about another attempt after a connection that failed before an answer.

        When: once per such attempt. May change: `error.retry`, which is what `retry` decided. Returns: None or a
        Response.
        """

    def fail_to_proxy(self, session: Session, error: ProxyError, ctx: Ctx) -> Answer:
        """Choose the error page.

        When: a request failed and nothing was sent yet. Returns: None (default page) or a Response.
        """

    def suppress_error_log(self, session: Session, error: ProxyError, ctx: Ctx) -> MaybeAsync[bool | None]:
        """Keep a failure out of the error log. When: a request failed. Returns: True to say nothing."""

    def request_summary(self, session: Session, ctx: Ctx) -> MaybeAsync[str | None]:
        """Describe the request in the error log. Returns: a str. Default: method, target and Host."""

    def logging(self, session: Session, error: ProxyError | None, ctx: Ctx) -> MaybeAsync[None]:
        """Log a finished request. When: last, always. Returns: nothing."""

    def persist_connection_context(self, session: Session, ctx: Ctx) -> Any:
        """Give something to the next request of the same client connection.

        When: after `logging`, if the connection stays open. Returns: anything for `on_connection_reuse`, or None.
        """


def overridden_hooks(proxy: ProxyHttp) -> tuple[Any, ...]:
    """Give what `proxy`'s class and modules override, in the order of the core's phases; None for the other phases."""
    return tuple(combine(name, own_hook(proxy, name), module_hooks(proxy.modules, name)) for name in PHASES)


def answer_filter(proxy: ProxyHttp) -> Any:
    """Give what the modules do with answers that are made here, None if nothing."""
    return combine("answer_filter", None, module_hooks(proxy.modules, "answer_filter"))


def own_hook(proxy: ProxyHttp | TcpProxy, name: str) -> Any:
    """Give the bound method of a phase if `proxy`'s class overrides it, else None."""
    base = TcpProxy if isinstance(proxy, TcpProxy) else ProxyHttp
    return getattr(proxy, name) if getattr(type(proxy), name) is not getattr(base, name) else None


def tcp_hooks(proxy: TcpProxy) -> tuple[Any, ...]:
    """Give what `proxy`'s class overrides, in the order of the core's phases; None for the other phases."""
    return tuple(own_hook(proxy, name) for name in TCP_PHASES)


def all_hooks(proxy: ProxyHttp | TcpProxy) -> list[Any]:
    """Give every function that a session may run: the hooks as the core calls them, and what these are made of."""
    if isinstance(proxy, TcpProxy):
        return list(tcp_hooks(proxy))
    hooks = list(overridden_hooks(proxy))
    for name in PHASES:
        hooks += [*module_hooks(proxy.modules, name), own_hook(proxy, name)]
    return hooks
