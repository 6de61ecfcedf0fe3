"""gRPC end to end: clients and servers of grpcio, over h2c and TLS."""

import asyncio
import threading
import time

import pytest
from conversations import proxy_to, wait_until
from h2_origin import RawOrigin
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame
from pki import Authority

from pingora import Certificate, HttpPeer, Limits, ProxyHttp, Response, TlsSettings, UpstreamTls
from pingora.testing import read_all

grpc = pytest.importorskip("grpc", reason="grpcio has no wheel for this Python")
from grpc_service import SERVICE, path, serving  # noqa: E402 - needs grpcio

LARGE = 3_000_000


class To(ProxyHttp):
    def __init__(self, address, **options):
        self.peer = HttpPeer(address, protocol="h2", **options)

    def upstream_peer(self, session, ctx):
        return self.peer


class Guarded(To):
    def request_filter(self, session, ctx):
        if session.request.headers.get("authorization") != "secret":
            return Response(401, None, "no token")


@pytest.fixture(scope="module")
def ca():
    return Authority()


@pytest.fixture
def service(ca):
    with serving(ca.issue("localhost")) as service:
        yield service


@pytest.fixture(params=["h2c", "tls"])
def channel(request, ca, service, proxy_factory):
    """A client of a proxy before the service, both sides the same."""
    options = [("grpc.max_receive_message_length", -1)]
    if request.param == "h2c":
        proxy = proxy_factory(To(service.address))
        channel = grpc.insecure_channel(proxy.address, options)
    else:
        issued = ca.issue("localhost")
        tls = UpstreamTls(ca=ca.chain, server_name="localhost")
        proxy = proxy_factory(To(service.tls_address, tls=tls), tls=TlsSettings(Certificate(issued.chain, issued.key)))
        trust = grpc.ssl_channel_credentials(ca.chain)
        channel = grpc.secure_channel(f"localhost:{proxy.port}", trust, options)
    with channel:
        yield channel


@pytest.mark.parametrize("size", [0, 1, 16384, LARGE])
def test_a_unary_call_with_trailing_metadata(channel, size):
    answer, call = channel.unary_unary(path("unary")).with_call(b"x" * size, timeout=30)
    assert answer == b"x" * size
    assert ("x-size", str(size)) in call.trailing_metadata()


def test_metadata_goes_both_ways_in_text_and_bytes(channel):
    initial = [("x-initial", "a"), ("x-initial", "b"), ("x-initial-bin", b"\0\xff")]
    trailing = [("x-trailing", "c"), ("x-trailing-bin", bytes(range(256)))]
    answer, call = channel.unary_unary(path("metadata")).with_call(b"hi", metadata=initial + trailing, timeout=30)
    assert answer == b"hi"
    assert [pair for pair in call.initial_metadata() if pair[0].startswith("x-initial")] == initial
    assert [pair for pair in call.trailing_metadata() if pair[0].startswith("x-trailing")] == trailing


def test_compressed_messages_pass_as_they_are(proxy_factory, service):
    seen = []

    class Looking(To):
        def request_filter(self, session, ctx):
            seen.append(session.request.headers["grpc-encoding"])

        def response_filter(self, session, response, ctx):
            seen.append(response.headers["grpc-encoding"])

        def response_body_filter(self, session, chunk, end, ctx):
            seen.append(len(chunk))

    body = b"x" * 100_000
    proxy = proxy_factory(Looking(service.address))
    with grpc.insecure_channel(proxy.address, compression=grpc.Compression.Gzip) as channel:
        assert channel.unary_unary(path("compressed"))(body, timeout=30) == body
    assert seen[:2] == ["gzip", "gzip"]
    assert sum(seen[2:]) < 1000


def test_a_stream_of_answers(channel):
    assert list(channel.unary_stream(path("counts"))(b"500", timeout=30)) == [b"%d" % n for n in range(500)]


def test_a_stream_of_requests(channel):
    parts = [b"%d" % n * 1000 for n in range(300)]
    assert channel.stream_unary(path("joined"))(iter(parts), timeout=30) == b"".join(parts)


def test_both_sides_take_turns(channel):
    """Each message is answered before the next is sent: nothing waits in the proxy."""
    sent = threading.Semaphore(1)

    def requests():
        for word in (b"a", b"b", b"c"):
            assert sent.acquire(timeout=20)
            yield word

    answers = []
    for answer in channel.stream_stream(path("chat"))(requests(), timeout=30):
        answers.append(answer)
        sent.release()
    assert answers == [b"A", b"B", b"C"]


def test_an_empty_stream_of_requests_gets_an_empty_one_of_answers(channel):
    call = channel.stream_stream(path("chat"))(iter(()), timeout=30)
    assert list(call) == []
    assert call.code() == grpc.StatusCode.OK


@pytest.mark.parametrize("message", ["not 100 % \u00e4 today", "\t\nspace\r\n and \u263a and \U0001f608\t\n"])
def test_an_error_of_the_service_keeps_its_message(channel, message):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path("fails"))(message.encode(), timeout=30)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == message


def test_a_method_that_there_is_not(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path("nothing"))(b"", timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_call_that_is_cancelled_is_cancelled_at_the_service(channel, service):
    call = channel.unary_stream(path("waits"))(b"")
    assert next(call) == b"begun"
    call.cancel()
    assert service.cancelled.wait(20)


def test_a_call_that_is_cancelled_before_its_first_message_is_cancelled_at_the_service(channel, service):
    nothing = threading.Event()

    def requests():
        nothing.wait(30)
        yield from ()

    call = channel.stream_unary(path("joined")).future(requests())
    assert service.begun.wait(20)
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    assert service.cancelled.wait(20)
    nothing.set()


def test_the_deadline_reaches_the_service(channel, service):
    call = channel.unary_stream(path("waits"))(b"", timeout=25)
    assert next(call) == b"begun"
    assert 1 < service.deadline < 30  # what it measures is rounded
    call.cancel()


def test_many_calls_at_once(channel):
    unary = channel.unary_unary(path("unary"))
    calls = [unary.future(b"%d" % n, timeout=60) for n in range(1000)]
    assert [call.result() for call in calls] == [b"%d" % n for n in range(1000)]


def test_a_thousand_streams_are_open_at_once(proxy_factory):
    """No answer comes before all of them are there."""

    async def talk():
        n_open, all_open = 0, asyncio.Event()

        async def chat(requests, context):
            nonlocal n_open
            async for request in requests:
                n_open += 1
                if n_open == 1000:
                    all_open.set()
                await all_open.wait()
                yield request.upper()

        server = grpc.aio.server()
        handlers = {"chat": grpc.stream_stream_rpc_method_handler(chat)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        proxy = proxy_factory(To(address, max_h2_streams=100), Limits(http2_streams=1000))
        async with grpc.aio.insecure_channel(proxy.address) as channel:
            calls = [channel.stream_stream(path("chat"))(timeout=60) for _ in range(1000)]
            for number, call in enumerate(calls):
                await call.write(b"a%d" % number)
            answers = [await call.read() for call in calls]
            for call in calls:
                await call.done_writing()
            assert [await call.code() for call in calls] == [grpc.StatusCode.OK] * 1000
        await server.stop(0)
        return answers, proxy.serving.counters["pingora_upstream_h2_connections_total"]

    answers, n_connections = asyncio.run(talk())
    assert answers == [b"A%d" % number for number in range(1000)]
    assert n_connections >= 10


def test_a_service_that_is_not_there_is_unavailable(proxy_factory, service):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    proxy = proxy_factory(To(address))
    with grpc.insecure_channel(proxy.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path("unary"))(b"", timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "connect_failed"


def test_a_hook_refuses_a_call(proxy_factory, service):
    proxy = proxy_factory(Guarded(service.address))
    with grpc.insecure_channel(proxy.address) as channel:
        unary = channel.unary_unary(path("unary"))
        with pytest.raises(grpc.RpcError) as caught:
            unary(b"hi", timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert caught.value.details() == "no token"
        assert unary(b"hi", metadata=(("authorization", "secret"),), timeout=30) == b"hi"


def begin_and_die(peer, number):
    """Send a message and a part of the next one, then end the connection."""
    stream = peer.start()
    head = Encoder().encode([(":status", "200"), ("content-type", "application/grpc")])
    peer.send(HeadersFrame(stream, data=head, flags=["END_HEADERS"]), DataFrame(stream, data=b"\0\0\0\0\x02hi\0\0"))
    peer.sock.close()


class Failing(To):
    async def response_body_filter(self, session, chunk, end, ctx):
        if end:
            raise ValueError("no end")
        return chunk


def test_a_service_that_dies_within_its_answer_is_unavailable(proxy_factory):
    proxy = proxy_factory(To(RawOrigin(begin_and_die).address))
    with grpc.insecure_channel(proxy.address) as channel:
        answers = channel.unary_stream(path("down"))(b"", timeout=30)
        assert next(answers) == b"hi"
        with pytest.raises(grpc.RpcError):
            next(answers)
    assert answers.code() == grpc.StatusCode.UNAVAILABLE
    assert answers.details() == "upstream_truncated"


def test_a_hook_that_raises_within_an_answer_is_internal(proxy_factory, service):
    proxy = proxy_factory(Failing(service.address))
    with grpc.insecure_channel(proxy.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path("unary"))(b"hi", timeout=30)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert caught.value.details() == "hook_raised"


CALL = (
    b"POST /test.Echo/waits HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTE: trailers\r\n"
    b"grpc-timeout: 300m\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00"
)
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


@pytest.mark.parametrize("has_begun", [False, True])
def test_the_proxy_keeps_deadlines_too(proxy_factory, origin_factory, has_begun):
    """The client does not keep its own: the proxy ends the call."""
    ended = threading.Event()

    def hang(connection, request):
        if has_begun:
            connection.sendall(BEGUN)
        assert connection.recv(1) == b""
        ended.set()

    proxy = proxy_factory(proxy_to(origin_factory(hang).address))
    with proxy.connect(20) as client:
        client.sendall(CALL)
        answer = read_all(client)
    if has_begun:
        assert answer.endswith(b"1\r\nx")  # cut: the last chunk is missing
    else:
        assert b"\r\ngrpc-status: 4\r\n" in answer
        assert b"\r\ngrpc-message: call_timeout\r\n" in answer
    assert ended.wait(20)
    wait_until(lambda: proxy.serving.counters['pingora_failures_total{reason="call_timeout"}'] == 1)


def test_a_client_that_does_not_read_is_waited_for(proxy_factory, service):
    proxy = proxy_factory(To(service.address))
    with grpc.insecure_channel(proxy.address) as channel:
        slow = channel.unary_stream(path("counts"))(b"200000", timeout=60)
        assert next(slow) == b"0"
        began = time.monotonic()
        assert channel.unary_unary(path("unary"))(b"quick", timeout=30) == b"quick"
        assert time.monotonic() - began < 30
        slow.cancel()
