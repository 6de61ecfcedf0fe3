"""Each line that ends with a comment has a mistake that both type checkers must flag, and no other line has one."""

from dataclasses import dataclass

from pingora import (
    Endpoint,
    HttpModule,
    HttpPeer,
    Limits,
    PeerOptions,
    ProxyError,
    ProxyHttp,
    RequestHead,
    Response,
    ResponseHead,
    RetryPolicy,
    Server,
    Session,
    TcpProxy,
    TcpSession,
    TlsSettings,
    UpstreamTls,
)


@dataclass
class State:
    user: str = ""


class Mistaken(ProxyHttp[State]):
    def new_ctx(self) -> dict[str, str]:  # not what the class says
        return {}

    def request_filter(self, session: Session, ctx: State) -> str:  # neither None nor a Response
        return "hello"

    def early_request_filter(self, session: Session, ctx: dict[str, str]) -> None:  # not the ctx of the class
        pass

    def proxy_upstream_filter(self, session: Session) -> None:  # without ctx
        pass

    def upstream_peer(self, session: Session, ctx: State) -> str:  # no HttpPeer
        return "127.0.0.1:9001"

    def upstream_request_filter(self, session: Session, request: ResponseHead, ctx: State) -> None:  # no answer yet
        pass

    async def response_filter(self, session: Session, response: ResponseHead, ctx: State) -> None:
        response.headers["x-number"] = 3  # no text
        response.headers["x-user"] = ctx.usr  # no such attribute
        response.state = 200  # no such attribute

    def response_body_filter(self, session: Session, chunk: bytes, end: bool, ctx: State) -> str:  # no bytes
        return chunk.decode()

    async def websocket_message(  # no message
        self, session: Session, ctx: State, direction: str, message: str | bytes
    ) -> int:
        return len(message)

    async def fail_to_proxy(self, session: Session, error: ProxyError, ctx: State) -> bytes:  # no Response
        return b"sorry"

    def suppress_error_log(self, session: Session, error: ProxyError, ctx: State) -> str:  # no bool
        return "yes"

    def logging(self, session: Session, error: ProxyError | None, ctx: State) -> None:
        print(session.requst)  # no such attribute
        print(error.reason)  # may be None
        session.request.method = 1  # no text


class Forgets(ProxyHttp):
    async def request_filter(self, session: Session, ctx: object) -> Response:
        body: bytes = session.read_body()  # not awaited
        return Response(200, body=len(body))  # no body


class Shared(HttpModule[State]):
    def request_filter(self, session: Session, ctx: dict[str, str]) -> None:  # not the ctx of the class
        pass

    def answer_filter(self, session: Session, response: ResponseHead, ctx: State) -> None:
        response.headers["x-user"] = ctx.usr  # no such attribute


class Lines(TcpProxy):
    def connection_filter(self, session: TcpSession) -> Response:  # bytes
        return Response(200)

    def upstream_peer(self, session: TcpSession) -> HttpPeer:
        return HttpPeer("127.0.0.1:9001", read_timeout="20s")  # seconds


class TypedLines(TcpProxy[State]):
    def connection_filter(self, session: TcpSession[State]) -> None:
        session.ctx = {"user": "ada"}  # not what the class says

    def upstream_peer(self, session: TcpSession[dict[str, str]]) -> HttpPeer:  # not the ctx of the class
        return HttpPeer(session.ctx["address"])

    def logging(self, session: TcpSession[State], error: ProxyError | None) -> None:
        print(session.ctx.usr)  # no such attribute


HttpPeer("127.0.0.1:9001", protocol="h3")  # not spoken
HttpPeer("127.0.0.1:9001", proxy_protocol="2")  # v2
PeerOptions(protocol="h3")  # not spoken
PeerOptions(proxy_protocol="2")  # v2
UpstreamTls(min_version="1.1")  # not spoken
TlsSettings([], max_version="tls1.3")  # 1.3
Endpoint("127.0.0.1:9001", tls=True)  # an UpstreamTls
Mistaken.retry = RetryPolicy(attempts="2")  # no number
limits = Limits(head_timeout="10s")  # seconds
server = Server(limits=limits)
server.add_proxy(Mistaken, "127.0.0.1:0")  # the class
server.add_proxy(Lines(), 8080)  # no address
server.add_proxy(TypedLines, "127.0.0.1:0")  # the class
head = RequestHead(method=1)  # no text
