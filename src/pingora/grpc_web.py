"""GrpcWeb: browsers call services of gRPC.

A browser cannot read trailers, so gRPC-Web puts them behind the last message as one more frame; "text" is the same in
base64. Source: "gRPC Web" in the documentation of the grpc project.
"""

import base64
import struct
from collections.abc import Collection, Iterable
from contextvars import ContextVar
from typing import Any

from pingora.modules import HttpModule
from pingora_c.http.header_map import HeaderMap
from pingora_c.http.message import ResponseHead
from pingora_c.proxy.response import Response
from pingora_c.proxy.session import Session

WEB, WEB_TEXT, GRPC = "application/grpc-web", "application/grpc-web-text", "application/grpc"
TRAILERS = 0x80  # flag of the frame that has them
EXPOSED = "grpc-status, grpc-message, grpc-status-details-bin"


class Call:
    """One call: how its bodies are written, and what of the request waits for the rest of a group of base64."""

    def __init__(self, is_text: bool) -> None:
        self.is_text = is_text
        self.is_answered = False  # by gRPC; an answer of another type is left as it is
        self._of_request = b""
        self._attempt = 0

    def decode(self, chunk: bytes, end: bool, attempt: int) -> bytes:
        """Give the bytes of a piece of the request, which each attempt begins anew. Raises ValueError for no base64."""
        if not self.is_text:
            return chunk
        if attempt != self._attempt:
            self._attempt, self._of_request = attempt, b""
        data = self._of_request + chunk
        whole = len(data) - len(data) % 4
        self._of_request = data[whole:]
        if end and self._of_request:
            raise ValueError("the request's base64 is cut")
        # padding may end a part anywhere, and another begins behind it
        parts = data[:whole].replace(b"=", b"= ").replace(b"= =", b"==").split()
        return b"".join(base64.b64decode(part, validate=True) for part in parts)

    def encode(self, chunk: bytes) -> bytes:
        """Give what the client gets for a piece of the answer: padded, so that nothing waits for the next piece."""
        return base64.b64encode(chunk) if self.is_text else chunk


present: ContextVar[Call | None] = ContextVar("present", default=None)


class GrpcWeb(HttpModule):
    """Translates calls of gRPC-Web, binary and text, for upstreams that speak gRPC; other requests pass untouched.

    `origins` are the web sites whose scripts may call, such as "https://app.example.com", or "*" for all: preflight
    requests (CORS) for their calls are answered here. Put it into `ProxyHttp.modules`.
    """

    def __init__(self, origins: Collection[str] = ()) -> None:
        if isinstance(origins, str) and origins != "*":
            origins = (origins,)
        self._origins = origins

    def request_filter(self, session: Session, ctx: Any) -> Response | None:
        """Make a call of gRPC of it; answer what a browser asks before."""
        headers = session.request.headers
        if session.request.method == "OPTIONS" and announces_call(headers):
            return self._preflight(headers)
        kind, subtype = split_type(headers.get("content-type", ""))
        if kind not in (WEB, WEB_TEXT):
            return None
        present.set(Call(kind == WEB_TEXT))
        headers["content-type"] = GRPC + subtype
        headers.remove("accept")
        return None

    def request_body_filter(self, session: Session, chunk: bytes, end: bool, ctx: Any) -> bytes | Response | None:
        """Take base64 away."""
        call = present.get()
        if call is None or not call.is_text:
            return None
        try:
            return call.decode(chunk, end, session.attempts)
        except ValueError:
            return Response(400, None, "the body is not base64")

    def response_filter(self, session: Session, response: ResponseHead, ctx: Any) -> None:
        """Say what it is, and whose scripts may read it."""
        call = present.get()
        if call is None:
            return
        kind, subtype = split_type(response.headers.get("content-type", ""))
        call.is_answered = kind == GRPC
        if call.is_answered:
            response.headers["content-type"] = (WEB_TEXT if call.is_text else WEB) + subtype
        origin = self._allowed(session.request.headers)
        if origin:
            response.headers["access-control-allow-origin"] = origin
            response.headers["access-control-expose-headers"] = EXPOSED
            response.headers.add("vary", "origin")

    def answer_filter(self, session: Session, response: ResponseHead, ctx: Any) -> None:
        """The same for an answer that is made here: its outcome stands in the head, where scripts find it."""
        self.response_filter(session, response, ctx)

    def response_body_filter(self, session: Session, chunk: bytes, end: bool, ctx: Any) -> bytes | None:
        """Put it in base64."""
        call = present.get()
        return call.encode(chunk) if call is not None and call.is_answered and call.is_text else None

    def response_trailer_filter(self, session: Session, trailers: HeaderMap, ctx: Any) -> bytes | None:
        """Make a frame of the trailers."""
        call = present.get()
        return call.encode(trailer_frame(trailers.items())) if call is not None and call.is_answered else None

    def _preflight(self, headers: HeaderMap) -> Response | None:
        origin = self._allowed(headers)
        if not origin:
            return None
        allowed = {
            "access-control-allow-origin": origin,
            "access-control-allow-methods": "POST",
            "access-control-allow-headers": headers.get("access-control-request-headers", ""),
            "access-control-max-age": "86400",
            "vary": "origin",
        }
        return Response(204, allowed)

    def _allowed(self, headers: HeaderMap) -> str | None:
        origin = headers.get("origin")
        return origin if origin and (self._origins == "*" or origin in self._origins) else None


def announces_call(headers: HeaderMap) -> bool:
    """True for the preflight of a call: clients send X-Grpc-Web, that of .NET has Grpc-Accept-Encoding instead."""
    if headers.get("access-control-request-method") != "POST":
        return False
    names = [name.strip() for name in headers.get("access-control-request-headers", "").lower().split(",")]
    return any(name == "x-grpc-web" or name.startswith("grpc-") for name in names)


def split_type(text: str) -> tuple[str, str]:
    """Split "application/grpc-web+proto" before what says how messages are encoded; parameters are left out."""
    kind = text.partition(";")[0].strip().lower()
    kind, plus, subtype = kind.partition("+")
    return kind, plus + subtype


def trailer_frame(trailers: Iterable[tuple[str, str]]) -> bytes:
    """Encode trailers as a frame."""
    lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in trailers).encode("latin-1")
    return struct.pack(">BI", TRAILERS, len(lines)) + lines
