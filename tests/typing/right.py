"""Hooks as users write them; type checkers find nothing wrong, strictly."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, assert_type

from pingora import (
    DROP,
    Certificate,
    ClientHello,
    Endpoint,
    HeaderMap,
    HttpModule,
    HttpPeer,
    LastChunk,
    LoadBalancer,
    PeerOptions,
    ProxyError,
    ProxyHttp,
    RequestHead,
    Response,
    ResponseHead,
    Server,
    Session,
    TcpProxy,
    TcpSession,
    UpstreamTls,
    WebSocketClose,
)


@dataclass
class State:
    user: str = ""
    is_paid: bool = False


class Typed(ProxyHttp[State]):
    """Names its ctx once, and has it in every hook."""

    def __init__(self) -> None:
        self.upstreams = LoadBalancer(["127.0.0.1:9001"], peer=PeerOptions(protocol="h2", proxy_protocol="v1"))

    def new_ctx(self) -> State:
        return State()

    async def request_filter(self, session: Session, ctx: State) -> Response | None:
        assert_type(session.request.headers.get("authorization"), str | None)
        assert_type(session.request.headers.get("authorization", ""), str)
        assert_type(await session.read_body(), bytes)
        ctx.user = session.request.headers["authorization"]
        return None if ctx.user else Response(401)

    def upstream_peer(self, session: Session, ctx: State) -> HttpPeer:
        return HttpPeer(self.upstreams.select(), read_timeout=20.0)

    def upstream_request_filter(self, session: Session, request: RequestHead, ctx: State) -> None:
        request.headers["x-user"] = ctx.user

    def request_body_filter(
        self, session: Session, chunk: bytes, end: bool, ctx: State
    ) -> LastChunk | Response | bytearray | None:
        return Response(413) if chunk else None

    def response_filter(self, session: Session, response: ResponseHead, ctx: State) -> None:
        response.status = 200

    async def response_body_filter(self, session: Session, chunk: bytes, end: bool, ctx: State) -> bytes:
        return chunk.upper()

    def response_trailer_filter(self, session: Session, trailers: HeaderMap, ctx: State) -> None:
        trailers["x-user"] = ctx.user

    async def websocket_message(
        self, session: Session, ctx: State, direction: str, message: str | bytes
    ) -> str | bytes | WebSocketClose | None:
        return WebSocketClose(4000, "enough") if message == "spam" else message

    async def logging(self, session: Session, error: ProxyError | None, ctx: State) -> None:
        assert_type(session.error, ProxyError | None)

    def suppress_error_log(self, session: Session, error: ProxyError, ctx: State) -> bool:
        return error.reason == "client_gone"

    async def certificate(self, client_hello: ClientHello) -> Certificate | None:
        return Certificate("cert.pem", "key.pem") if client_hello.server_name else None

    async def close(self) -> None:
        pass


class Plain(ProxyHttp):
    """Says nothing of its ctx, which may be anything."""

    def new_ctx(self) -> dict[str, int]:
        return {"tries": 0}

    def request_filter(self, session: Session, ctx: dict[str, int]) -> Response:
        return Response(200, {"content-type": "text/plain"}, self.events())

    async def events(self) -> AsyncIterator[bytes]:
        yield b"one\n"


class Dropping(ProxyHttp):
    def websocket_message(self, session: Session, ctx: Any, direction: str, message: str | bytes) -> Any:
        return DROP


class Named(HttpModule):
    def response_filter(self, session: Session, response: ResponseHead, ctx: object) -> None:
        response.headers["server"] = "pingora"


class Counted(HttpModule[State]):
    """Shared by proxies of one ctx, which it names."""

    def request_filter(self, session: Session, ctx: State) -> Response | None:
        return Response(402) if ctx.is_paid else None

    async def logging(self, session: Session, error: ProxyError | None, ctx: State) -> None:
        print(ctx.user)


class Marked(Counted):
    """Adds to another module."""

    def answer_filter(self, session: Session, response: ResponseHead, ctx: State) -> None:
        response.headers["x-user"] = ctx.user


def peers(balancer: LoadBalancer) -> HttpPeer:
    endpoint = Endpoint("127.0.0.1:9001", tls=UpstreamTls(verify=False), protocol="h2h1")
    balancer.update([endpoint])
    assert balancer.peer_options is not None
    assert_type(balancer.peer_options.connect_timeout, float)
    assert_type(balancer.peer_options.protocol, Literal["h1", "h2", "h2h1"])
    return HttpPeer(endpoint, protocol="h2", proxy_protocol="v2")


class Lines(TcpProxy):
    def connection_filter(self, session: TcpSession) -> bytes | None:
        assert_type(session.ctx, Any)
        return b"220 no\r\n" if session.client_address.startswith("203.") else None


class TypedLines(TcpProxy[State]):
    """Names the type of `session.ctx`, and has it in every hook."""

    def connection_filter(self, session: TcpSession[State]) -> None:
        session.ctx = State(session.client_address)

    async def upstream_peer(self, session: TcpSession[State]) -> HttpPeer:
        assert_type(session.ctx, State)
        return HttpPeer(self.upstreams.select(), total_timeout=20.0 if session.ctx.is_paid else 5.0)

    async def logging(self, session: TcpSession[State], error: ProxyError | None) -> None:
        print(session.ctx.user, session.error)


server = Server()
Typed.modules = [Named(), Counted(), Marked()]
server.add_proxy(Typed(), listen="127.0.0.1:0")
server.add_proxy(Plain(), listen="127.0.0.1:0")
server.add_proxy(Lines(), listen="127.0.0.1:0")
server.add_proxy(TypedLines(), listen="127.0.0.1:0")
