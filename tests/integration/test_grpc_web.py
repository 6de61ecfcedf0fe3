"""gRPC-Web in its two forms, translated for an origin that gives trailers."""

import base64
import contextlib
import http.client
import struct
import threading

import pytest
from conversations import dechunk, more_of, wait_until
from h2_origin import RawOrigin
from http2_frames import POST, FrameClient
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame, SettingsFrame
from pki import Authority

from pingora import GrpcWeb, HttpPeer, ProxyHttp

MESSAGE = struct.pack(">BI", 0, 5) + b"hello"
ANSWER = struct.pack(">BI", 0, 7) + b"goodbye"
TRAILERS = b"grpc-status: 0\r\ngrpc-message: fine\r\n"
END = struct.pack(">BI", 0x80, len(TRAILERS)) + TRAILERS


class Translating(ProxyHttp):
    def __init__(self, address, module, protocol="h1"):
        self.peer = HttpPeer(address, protocol=protocol)
        self.modules = [module]

    def upstream_peer(self, session, ctx):
        return self.peer


@pytest.fixture
def start(proxy_factory, origin_factory):
    """Start a proxy; give it, and what the origin gets."""

    def start(
        module=None,
        pieces=(ANSWER[:4], ANSWER[4:]),
        trailers=b"Grpc-Status: 0\r\nGrpc-Message: fine\r\n",
        kind=b"application/grpc+proto",
    ):
        seen = []

        def answer(connection, request):
            head, _, body = request.partition(b"\r\n\r\n")
            while b"\r\n0\r\n\r\n" not in b"\r\n" + body:
                body += more_of(connection)
            seen.append((head.lower(), dechunk(head + b"\r\n\r\n" + body)[0]))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in pieces:
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            connection.sendall(b"0\r\n" + trailers + b"\r\n")

        proxy = proxy_factory(Translating(origin_factory(answer).address, module or GrpcWeb()))
        return proxy, seen

    return start


def ask(proxy, body, path="/echo.Echo/Say", **headers):
    client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=20)
    fields = {"Content-Type": "application/grpc-web+proto"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    client.request("POST", path, body, fields)
    response = client.getresponse()
    return response, response.read()


def decode(text):
    """Decode what is base64 in parts, each with padding of its own."""
    return b"".join(base64.b64decode(text[at : at + 4], validate=True) for at in range(0, len(text), 4))


def test_a_binary_call(start):
    proxy, seen = start()
    response, body = ask(proxy, MESSAGE)
    assert response.getheader("content-type") == "application/grpc-web+proto"
    assert body == ANSWER + END
    ((head, request),) = seen
    assert b"\r\ncontent-type: application/grpc+proto" in head
    assert b"\r\nte: trailers" in head
    assert request == MESSAGE


@pytest.mark.parametrize("sizes", [(1,) * len(ANSWER), (2, 3, 7), (len(ANSWER),)])
def test_a_text_call_in_pieces(start, sizes):
    pieces, at = [], 0
    for size in sizes:
        pieces.append(ANSWER[at : at + size])
        at += size
    proxy, seen = start(pieces=pieces)
    sent = base64.b64encode(MESSAGE[:4]) + base64.b64encode(MESSAGE[4:])  # padding in the middle is allowed
    response, body = ask(
        proxy, iter([sent[i : i + 1] for i in range(len(sent))]), Content_Type="application/grpc-web-text"
    )
    assert response.getheader("content-type") == "application/grpc-web-text+proto"
    assert decode(body) == ANSWER + END
    assert seen[0][1] == MESSAGE


def test_a_piece_of_a_text_answer_waits_for_no_other(start):
    arrived = threading.Event()

    def pieces():
        yield ANSWER[:7]
        arrived.wait(10)
        yield ANSWER[7:]

    proxy, _ = start(pieces=pieces())
    client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=20)
    fields = {"Content-Type": "application/grpc-web-text"}
    client.request("POST", "/echo.Echo/Say", iter([base64.b64encode(MESSAGE)]), fields)
    response = client.getresponse()
    first = response.read(12)
    arrived.set()
    assert decode(first) == ANSWER[:7]
    assert decode(response.read()) == ANSWER[7:] + END


@pytest.mark.parametrize("size", range(5, 9))
def test_a_text_answer_without_trailers_is_whole(start, size):
    proxy, _ = start(pieces=(ANSWER[:size],), trailers=b"")
    _, body = ask(proxy, iter([base64.b64encode(MESSAGE)]), Content_Type="application/grpc-web-text")
    assert decode(body) == ANSWER[:size]


@pytest.mark.parametrize(("form", "sent"), [("", MESSAGE), ("-text", base64.b64encode(MESSAGE))])
def test_an_answer_that_is_no_grpc_stays_as_it_is(start, form, sent):
    proxy, _ = start(pieces=(b"<html>",), kind=b"text/html")
    response, body = ask(proxy, iter([sent]), Content_Type=f"application/grpc-web{form}")
    assert response.getheader("content-type") == "text/html"
    assert body == b"<html>"


@pytest.mark.parametrize("body", [b"????", b"AAA"])
def test_a_body_that_is_no_base64_ends_the_call(start, body):
    proxy, _ = start()
    response, rest = ask(proxy, body, Content_Type="application/grpc-web-text")
    assert response.status == 200
    assert response.getheader("grpc-status") == "13"
    assert response.getheader("grpc-message") == "the body is not base64"
    assert rest == b""


def test_other_requests_pass_untouched(start):
    proxy, seen = start()
    _, body = ask(proxy, iter([b"AAAA"]), Content_Type="text/plain")
    assert body == ANSWER
    assert seen[0][1] == b"AAAA"


def test_browsers_are_told_whose_scripts_may_call(start):
    proxy, _ = start(GrpcWeb(origins=["https://app.test"]))
    response, _ = ask(proxy, MESSAGE, Origin="https://app.test")
    assert response.getheader("access-control-allow-origin") == "https://app.test"
    assert "grpc-status" in response.getheader("access-control-expose-headers")
    response, _ = ask(proxy, MESSAGE, Origin="https://other.test")
    assert response.getheader("access-control-allow-origin") is None


def preflight(proxy, method, names):
    client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=20)
    fields = {"Origin": "https://app.test", "Access-Control-Request-Method": method}
    if names:
        fields["Access-Control-Request-Headers"] = names
    client.request("OPTIONS", "/echo.Echo/Say", headers=fields)
    return client.getresponse()


@pytest.mark.parametrize(
    "names",
    [
        pytest.param("content-type,x-grpc-web,x-user-agent", id="grpc-web"),
        pytest.param("content-type,grpc-accept-encoding,x-user-agent", id="grpc-dotnet"),
        pytest.param("Content-Type, X-Grpc-Web", id="spaces"),
    ],
)
def test_a_preflight_is_answered_for_allowed_origins(start, names):
    proxy, _ = start(GrpcWeb(origins="*"))
    response = preflight(proxy, "POST", names)
    assert response.status == 204
    assert response.getheader("access-control-allow-headers") == names
    assert response.getheader("access-control-allow-methods") == "POST"


@pytest.mark.parametrize(
    ("method", "names"),
    [("PUT", "content-type,x-grpc-web"), ("POST", "content-type,x-api-key"), ("POST", "my-grpc-web"), ("POST", None)],
)
def test_a_preflight_of_another_request_passes(proxy_factory, origin_factory, method, names):
    origin = origin_factory(b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Methods: PUT\r\n\r\n")
    proxy = proxy_factory(Translating(origin.address, GrpcWeb(origins="*")))
    assert preflight(proxy, method, names).getheader("access-control-allow-methods") == "PUT"


@pytest.fixture
def before_grpcio(proxy_factory):
    """Start a proxy before a service of grpcio, over HTTP/2; give a function that calls a method, as `form` says."""
    pytest.importorskip("grpc", reason="grpcio has no wheel for this Python")
    from grpc_service import path, serving

    with serving(Authority().issue("localhost")) as service:
        proxy = proxy_factory(Translating(service.address, GrpcWeb(), "h2"))

        def call(form, method, *messages):
            sent = b"".join(message_frame(message) for message in messages)
            kind = f"application/grpc-web{form}"
            response, body = ask(proxy, base64.b64encode(sent) if form else sent, path(method), Content_Type=kind)
            assert response.status == 200
            assert response.getheader("content-type") == kind
            return response, decode(body) if form else body

        yield call


def message_frame(message):
    return struct.pack(">BI", 0, len(message)) + message


def split_frames(body):
    """Give the flags and the content of each frame."""
    frames = []
    while body:
        flags, size = struct.unpack(">BI", body[:5])
        frames.append((flags, body[5 : 5 + size]))
        body = body[5 + size :]
    return frames


@pytest.mark.parametrize("form", ["", "-text"])
@pytest.mark.parametrize("size", [0, 5, 100_000])
def test_a_service_of_grpcio_answers_a_call(before_grpcio, form, size):
    _, body = before_grpcio(form, "unary", b"x" * size)
    (message, (flags, trailers)) = split_frames(body)
    assert message == (0, b"x" * size)
    assert flags == 0x80
    assert {b"grpc-status: 0", b"x-size: %d" % size} < set(trailers.split(b"\r\n"))


@pytest.mark.parametrize("form", ["", "-text"])
def test_a_service_of_grpcio_answers_with_a_stream(before_grpcio, form):
    _, body = before_grpcio(form, "counts", b"300")
    *messages, (flags, trailers) = split_frames(body)
    assert messages == [(0, b"%d" % number) for number in range(300)]
    assert (flags, trailers[:14]) == (0x80, b"grpc-status: 0")


@pytest.mark.parametrize("form", ["", "-text"])
def test_a_refusal_of_grpcio_is_a_head_with_its_status(before_grpcio, form):
    """What gRPC calls "Trailers-Only"."""
    response, body = before_grpcio(form, "fails", b"not today")
    assert body == b""
    assert response.getheader("grpc-status") == "9"
    assert response.getheader("grpc-message") == "not today"


@pytest.mark.parametrize("cut", [6, 7, 8])
def test_a_text_call_that_is_refused_in_the_middle_arrives_right_at_the_second_attempt(proxy_factory, cut):
    """A group of base64 that the first attempt had begun is not continued by the second."""
    bodies = {}

    def script(peer, number):
        peer.preface()
        peer.send(SettingsFrame(0), SettingsFrame(0, flags=["ACK"]))
        while True:
            frame = peer.frame()
            if isinstance(frame, HeadersFrame):
                bodies[frame.stream_id] = b""
            elif isinstance(frame, DataFrame):
                bodies[frame.stream_id] += frame.data
                if frame.stream_id == min(bodies):
                    peer.send(RstStreamFrame(frame.stream_id, error_code=7))  # REFUSED_STREAM
                elif "END_STREAM" in frame.flags:
                    peer.answer(frame.stream_id)

    text = base64.b64encode(MESSAGE)
    with contextlib.closing(RawOrigin(script)) as origin:
        proxy = proxy_factory(Translating(origin.address, GrpcWeb(), "h2"))
        with FrameClient(proxy) as client:
            head = client.head([*POST, ("content-type", "application/grpc-web-text")], end=False)
            client.send(head, DataFrame(1, data=text[:cut]))
            wait_until(lambda: len(bodies) == 2)
            client.send(DataFrame(1, data=text[cut:], flags=["END_STREAM"]))
            assert client.answer()["status"] == 200
    first, second = bodies.values()
    assert MESSAGE.startswith(first)
    assert second == MESSAGE


def test_an_outcome_that_is_made_here_reaches_scripts(proxy_factory):
    proxy = proxy_factory(Translating("127.0.0.1:1", GrpcWeb(["https://app.test"])))
    response, body = ask(proxy, MESSAGE, origin="https://app.test")
    assert (response.status, body) == (200, b"")
    assert response.getheader("content-type") == "application/grpc-web"
    assert response.getheader("grpc-status") == "14"
    assert response.getheader("access-control-allow-origin") == "https://app.test"
    assert "grpc-status" in response.getheader("access-control-expose-headers")
