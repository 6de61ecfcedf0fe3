"""WebSocket over HTTP/2 to origins (RFC 8441): Hypercorn, and origins scripted frame by frame."""

import contextlib
import os
import socket
import threading
import time

import pytest
from conversations import more_of, wait_until
from h2_origin import H2Origin, RawOrigin
from h2_websocket import H2WebSocket
from hypercorn_origin import hypercorn
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from inside import RESET, Gate, settle
from pki import Authority
from websocket_ends import client_of, echo, origins
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pingora import HttpPeer, Limits, LoadBalancer, ProxyHttp, UpstreamTls
from pingora.testing import read_all
from pingora_c.mem.buffer_pool import stats
from pingora_c.ws.frame import encode

MIB = 1024 * 1024
CONNECTS = SettingsFrame.ENABLE_CONNECT_PROTOCOL
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = (
    b"GET /chat?x=1 HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TUNNEL = HeadersFrame(1, data=b"\x88", flags=["END_HEADERS"])  # :status 200


class To(ProxyHttp):
    def __init__(self, address, **options):
        self.peer = HttpPeer(address, **{"protocol": "h2"} | options)

    def upstream_peer(self, session, ctx):
        return self.peer


class Marking(To):
    def websocket_message(self, session, ctx, direction, message):
        mark = f" {direction}"
        return message + mark if isinstance(message, str) else message + mark.encode()


class Logging(To):
    def __init__(self, address, **options):
        super().__init__(address, **options)
        self.errors = []

    def logging(self, session, error, ctx):
        self.errors.append((error and error.reason, error and error.detail))


@pytest.fixture(scope="module")
def plain_origin():
    with hypercorn() as address:
        yield address


@pytest.fixture
def raw_origin():
    """Origins scripted frame by frame."""
    with contextlib.ExitStack() as stack:

        def make(script):
            return stack.enter_context(contextlib.closing(RawOrigin(script)))

        yield make


def meet(peer):
    """Greet the proxy as an origin that takes extended CONNECT; its HEADERS frame."""
    peer.preface()
    peer.send(SettingsFrame(0, settings={CONNECTS: 1}), SettingsFrame(0, flags=["ACK"]))
    return peer.next(HeadersFrame)


def upgraded(proxy):
    """A socket behind the 101 to UPGRADE."""
    client = proxy.connect(20)
    client.sendall(UPGRADE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += more_of(client, 1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return client, head


# -- Hypercorn


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("kind", [To, Marking])
def test_a_client_of_http1(proxy_factory, plain_origin, kind, compression):
    proxy = proxy_factory(kind(plain_origin))
    mark = " upstream downstream" if kind is Marking else ""
    with client_of(proxy, compression=compression, subprotocols=["chat"]) as client:
        assert client.response.headers["x-version"] == "2"
        assert client.subprotocol == "chat"
        assert bool(compression) == ("sec-websocket-extensions" in client.response.headers)
        for message in ("hello", os.urandom(MIB // 2)):
            client.send(message)
            assert client.recv(timeout=20) == message + (mark if message == "hello" else mark.encode())
        assert client.ping().wait(20)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [To, Marking])
def test_a_client_of_http2(proxy_factory, plain_origin, kind, compressed):
    proxy = proxy_factory(kind(plain_origin))
    mark = " upstream downstream" if kind is Marking else ""
    extra = [("sec-websocket-protocol", "chat")]
    with H2WebSocket(proxy.connect(), compressed=compressed, extra=extra) as client:
        assert (client.status, client.fields["x-version"]) == (200, "2")
        assert client.fields["sec-websocket-protocol"] == "chat"
        assert ("sec-websocket-extensions" in client.fields) == compressed
        assert not {"sec-websocket-accept", "upgrade", "connection"} & set(client.fields)
        for message in ("hello", os.urandom(MIB // 2)):
            client.send(message)
            assert client.receive() == message + (mark if message == "hello" else mark.encode())


@pytest.mark.parametrize("compressed", [False, True])
def test_messages_of_a_client_of_http2_to_an_origin_of_http1(proxy_factory, compressed):
    with origins() as start:
        address, ends = start(echo)
        proxy = proxy_factory(Marking(address, protocol="h1"))
        with H2WebSocket(proxy.connect(), compressed=compressed) as client:
            client.send("hello")
            assert client.receive() == "hello upstream downstream"
            assert client.close(4002, "bye") == (4002, "bye")
            assert (client.has_ended, client.reset) == (True, None)
        assert ends.wait() == (4002, "bye")


def test_a_close_of_the_origin_arrives(proxy_factory, plain_origin):
    with client_of(proxy_factory(To(plain_origin))) as client:
        client.send("leave")
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=20)
        assert (client.close_code, client.close_reason) == (4001, "as asked")


def test_a_refusal_is_an_answer_like_others(proxy_factory, plain_origin):
    proxy = proxy_factory(To(plain_origin))
    with pytest.raises(InvalidStatus) as refused:
        client_of(proxy, "/refused")
    assert refused.value.response.status_code == 403
    with H2WebSocket(proxy.connect(), "/refused") as client:
        assert client.status == 403


def test_many_at_once_share_connections(proxy_factory, plain_origin):
    proxy = proxy_factory(To(plain_origin))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client_of(proxy)) for _ in range(60)]
        for client in clients:
            stack.callback(client.socket.shutdown, socket.SHUT_RDWR)
        for number, client in enumerate(clients):
            client.send(str(number))
        assert [client.recv(timeout=20) for client in clients] == [str(number) for number in range(60)]
        assert proxy.serving.counters["pingora_upstream_h2_connections_open"] == 1


def test_h2h1_takes_http2_where_a_connection_announces_it(proxy_factory, tmp_path):
    ca = Authority()
    issued = ca.issue("127.0.0.1")
    chain, key = issued.write(tmp_path, "origin")
    tls = UpstreamTls(ca=ca.write(tmp_path, "ca")[0])
    with hypercorn("--certfile", os.fspath(chain), "--keyfile", os.fspath(key)) as address:
        proxy = proxy_factory(To(address, protocol="h2h1", tls=tls))
        with client_of(proxy) as client:
            assert client.response.headers["x-version"] == "1.1"
        with proxy.connect() as client:
            client.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert b"\r\nserver: hypercorn-h2\r\n" in read_all(client)
        with client_of(proxy) as client:
            assert client.response.headers["x-version"] == "2"
            client.send("hello")
            assert client.recv(timeout=20) == "hello"


# -- the handshake, frame by frame


def test_the_request_is_an_extended_connect(proxy_factory, raw_origin):
    heads = []

    def script(peer, number):
        head = meet(peer)
        heads.append((dict(head.fields), "END_STREAM" in head.flags))
        peer.send(TUNNEL)
        peer.rest()

    proxy = proxy_factory(To(raw_origin(script).address))
    client, head = upgraded(proxy)
    client.close()
    fields, has_ended = heads[0]
    assert not has_ended
    assert {key: fields[key] for key in (b":method", b":protocol", b":scheme", b":path", b":authority")} == {
        b":method": b"CONNECT",
        b":protocol": b"websocket",
        b":scheme": b"http",
        b":path": b"/chat?x=1",
        b":authority": b"a.example",
    }
    assert fields[b"sec-websocket-protocol"] == b"chat"
    assert not {b"sec-websocket-key", b"upgrade", b"connection", b"content-length"} & set(fields)
    assert b"\r\nUpgrade: websocket\r\n" in head
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head  # RFC 6455 §1.3
    assert b"ontent-" not in head


def test_nothing_is_asked_before_the_origin_has_announced_it(proxy_factory, raw_origin):
    methods = []

    def script(peer, number):
        peer.preface()
        first = peer.next(HeadersFrame)
        peer.send(SettingsFrame(0, settings={CONNECTS: 1}), SettingsFrame(0, flags=["ACK"]))
        peer.answer(first.stream_id)
        second = peer.next(HeadersFrame)
        methods.extend(dict(head.fields)[b":method"] for head in (first, second))
        peer.send(HeadersFrame(second.stream_id, data=b"\x88", flags=["END_HEADERS"]))
        peer.rest()

    origin = raw_origin(script)
    proxy = proxy_factory(To(origin.address))
    with proxy.connect() as waiting, proxy.connect() as plain:
        waiting.sendall(UPGRADE)
        wait_until(lambda: origin.connections)
        plain.sendall(GET)
        assert plain.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert waiting.recv(65536).startswith(b"HTTP/1.1 101 ")
    assert methods == [b"GET", b"CONNECT"]
    assert len(origin.connections) == 1


def test_an_origin_that_says_nothing_is_not_waited_for_longer_than_for_a_connect(proxy_factory, raw_origin):
    proxy = proxy_factory(To(raw_origin(lambda peer, number: peer.rest()).address, connect_timeout=0.2))
    with proxy.connect() as client:
        client.sendall(UPGRADE.replace(b"Connection: upgrade", b"Connection: upgrade, close"))
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert answer.endswith(b"connect_timeout\n")


def test_an_origin_that_takes_a_websocket_and_says_nothing_is_504(proxy_factory, raw_origin):
    def script(peer, number):
        streams.append(meet(peer).stream_id)
        while True:
            streams.append(peer.request())

    streams = []
    proxy = proxy_factory(To(raw_origin(script).address, first_byte_timeout=0.2))
    with proxy.connect(20) as client:
        client.sendall(UPGRADE.replace(b"Connection: upgrade", b"Connection: upgrade, close"))
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert answer.endswith(b"first_byte_timeout\n")
    with H2WebSocket(proxy.connect(20)) as client:
        assert client.status == 504
    assert streams


@pytest.mark.parametrize("protocol", [b"websocket", b"other"])
def test_an_origin_that_does_not_announce_it_is_502_and_none_the_worse(proxy_factory, protocol):
    with contextlib.closing(H2Origin()) as origin:
        proxy = Logging(origin.address)
        proxy.upstreams = LoadBalancer([f"h2c://{origin.address}"])
        proxy.peer = HttpPeer(proxy.upstreams.endpoints[0])
        with proxy_factory(proxy).connect() as client:
            client.sendall(UPGRADE.replace(b"websocket", protocol, 1))
            answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert answer.endswith(b"no_upgrade\n")
        wait_until(lambda: proxy.errors)
        assert proxy.errors == [("no_upgrade", "the upstream does not announce extended CONNECT")]
        assert proxy.upstreams.endpoints[0].failures_in_row == 0


@pytest.mark.parametrize("key", [b"", b"Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: b\r\n"])
def test_a_client_without_one_key_is_400(proxy_factory, raw_origin, key):
    proxy = proxy_factory(To(raw_origin(lambda peer, number: (meet(peer), peer.rest())).address))
    with proxy.connect() as client:
        client.sendall(UPGRADE.replace(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", key))
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"client_bad_upgrade\n")


# -- the tunnel, frame by frame


def test_each_side_ends_on_its_own_and_all_arrives(proxy_factory, raw_origin):
    """Of 100,000 bytes 65,535 find room in the window; the rest follows though the origin has ended before."""
    got = []

    def script(peer, number):
        meet(peer)
        peer.send(TUNNEL)
        while len(b"".join(got)) < 65535:
            got.append(peer.next(DataFrame).data)
        peer.send(DataFrame(1, data=b"", flags=["END_STREAM"]))
        peer.send(WindowUpdateFrame(1, window_increment=MIB), WindowUpdateFrame(0, window_increment=MIB))
        while "END_STREAM" not in (frame := peer.next(DataFrame)).flags:
            got.append(frame.data)
        got.append(frame.data)
        got.append(None)

    proxy = Logging(raw_origin(script).address)
    client, _ = upgraded(proxy_factory(proxy))
    sent = encode(0x82, os.urandom(99_992), b"mask")
    with client:
        client.sendall(sent)
        client.shutdown(1)
        assert client.recv(100) == b""
    wait_until(lambda: got and got[-1] is None)
    assert b"".join(got[:-1]) == sent
    wait_until(lambda: proxy.errors)
    assert proxy.errors == [(None, None)]


def test_a_reset_of_one_side_is_a_reset_of_the_other(proxy_factory, raw_origin):
    codes = []

    def script(peer, number):
        first = meet(peer).stream_id
        peer.send(TUNNEL, RstStreamFrame(first, error_code=8))
        second = peer.request()
        peer.send(HeadersFrame(second, data=b"\x88", flags=["END_HEADERS"]))
        codes.append(peer.next(RstStreamFrame).error_code)
        peer.rest()

    proxy = proxy_factory(To(raw_origin(script).address))
    client, _ = upgraded(proxy)
    with client, pytest.raises(ConnectionResetError):
        client.recv(100)
    client, _ = upgraded(proxy)
    client.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER of 0 s: close() resets
    client.close()
    wait_until(lambda: codes)
    assert codes == [8]  # CANCEL


def lose_the_stream(peer, how):
    if how == "stream":
        peer.send(RstStreamFrame(1, error_code=8), PingFrame(0, opaque_data=b"was seen"))
        peer.next(PingFrame)
    elif how == "goaway":
        peer.send(GoAwayFrame(0, last_stream_id=1, error_code=2))
    elif how == "reset":
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    if how != "stream":
        peer.sock.close()


def send_on(proxy, client):
    for _ in range(100):
        client.sendall(b"x" * 1000)
        settle(proxy)


def read_on(client, data):
    while True:
        data.append(more_of(client))


@pytest.mark.parametrize("how", ["stream", "goaway", "reset", "end"])
def test_an_origin_lost_after_its_end_is_a_reset_for_the_client(proxy_factory, raw_origin, how):
    may_go = threading.Event()

    def script(peer, number):
        meet(peer)
        peer.send(TUNNEL, DataFrame(1, data=b"bye", flags=["END_STREAM"]))
        assert may_go.wait(20)
        lose_the_stream(peer, how)
        peer.rest()

    hooks = Logging(raw_origin(script).address)
    proxy = proxy_factory(hooks)
    client, _ = upgraded(proxy)
    with client:
        assert read_all(client) == b"bye"
        may_go.set()
        wait_until(lambda: hooks.errors)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            send_on(proxy, client)
    assert hooks.errors[0][0] == "upstream_closed"
    assert hooks.errors[0][1] == ("the upstream reset the stream: CANCEL" if how == "stream" else None)
    wait_until(lambda: proxy.serving.activity()[1] == 0)


class Holding(Logging):
    """Messages wait for a gate, and what comes behind them with them."""

    def __init__(self, address):
        super().__init__(address)
        self.gate = Gate()

    async def websocket_message(self, session, ctx, direction, message):
        if message == "first":
            await self.gate.wait()


@pytest.mark.parametrize("how", ["stream", "end"])
def test_what_came_before_the_end_of_an_origin_that_is_lost_arrives(proxy_factory, raw_origin, how):
    first, second = encode(0x81, b"first"), encode(0x81, b"second")
    data = []

    def script(peer, number):
        meet(peer)
        peer.send(TUNNEL, DataFrame(1, data=first))
        hooks.gate.await_hook()
        peer.send(DataFrame(1, data=second, flags=["END_STREAM"]))
        lose_the_stream(peer, how)
        is_lost.set()
        peer.rest()

    is_lost = threading.Event()
    origin = raw_origin(script)
    hooks = Holding(origin.address)
    proxy = proxy_factory(hooks)
    client, _ = upgraded(proxy)
    with client:
        assert is_lost.wait(20)
        if how == "end":
            wait_until(lambda: proxy.serving.counters["pingora_upstream_h2_connections_open"] == 0)
        hooks.gate.open()
        with pytest.raises(ConnectionResetError):
            read_on(client, data)
    assert b"".join(data) == first + second
    wait_until(lambda: hooks.errors)
    assert hooks.errors[0][0] == "upstream_closed"


@pytest.mark.parametrize("kind", [To, Marking])
def test_an_origin_that_takes_nothing_stops_the_client(proxy_factory, raw_origin, kind):
    def script(peer, number):
        meet(peer)
        peer.send(TUNNEL)
        peer.rest()

    proxy = proxy_factory(kind(raw_origin(script).address), Limits(message_bytes=32 * MIB))
    client, _ = upgraded(proxy)
    with client:
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.sendall(encode(0x82, b"x" * 65536, b"mask") * 512)
        now = stats()
        assert now["lent_bytes"] + now["reserved_bytes"] < 2 * MIB


@pytest.mark.parametrize("kind", [To, Marking])
def test_both_sides_are_told_1001_at_the_end_of_a_drain(proxy_factory, raw_origin, kind):
    told = []

    def script(peer, number):
        meet(peer)
        peer.send(TUNNEL)
        data = b""
        while len(data) < 8:
            data += peer.next(DataFrame).data
        told.append(bytes(octet ^ mask for octet, mask in zip(data[6:8], data[2:4], strict=True)))
        peer.send(DataFrame(1, data=encode(0x88, told[0]), flags=["END_STREAM"]))
        peer.rest()

    proxy = proxy_factory(kind(raw_origin(script).address))
    with client_of(proxy, compression=None) as client:
        proxy.call(proxy.serving.drain(0), timeout=10)
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=20)
        assert client.close_code == 1001
    wait_until(lambda: told)
    assert told == [b"\x03\xe9"]


def test_a_tunnel_in_which_nothing_moves_is_ended(proxy_factory, raw_origin):
    def script(peer, number):
        meet(peer)
        peer.send(TUNNEL)
        peer.rest()

    proxy = Logging(raw_origin(script).address, read_timeout=0.05)
    client, _ = upgraded(proxy_factory(proxy, Limits(tunnel_timeout=0.2)))
    with client:
        assert client.recv(100) == encode(0x88, b"\x03\xe9idle")
    wait_until(lambda: proxy.errors)
    assert proxy.errors[0][0] == "tunnel_timeout"


@pytest.mark.parametrize("kind", [To, Marking])
def test_a_slow_origin_gets_what_came_before_the_close(proxy_factory, raw_origin, kind):
    message = encode(0x82, os.urandom(70_000), bytes(4)) + encode(0x88, b"\x03\xe8", bytes(4))
    missing = [len(message) + (len(" upstream") if kind is Marking else 0)]
    closed = threading.Event()

    def script(peer, number):
        meet(peer)
        peer.send(TUNNEL, DataFrame(1, data=encode(0x88, b"\x03\xe8")))
        assert closed.wait(20)
        time.sleep(2.5)  # more than both sides have for their ends, once they have closed
        peer.send(WindowUpdateFrame(0, window_increment=MIB), WindowUpdateFrame(1, window_increment=MIB))
        while missing[0]:
            missing[0] -= len(peer.next(DataFrame).data)
        peer.rest()

    proxy = proxy_factory(kind(raw_origin(script).address))
    client, _head = upgraded(proxy)
    with client:
        client.sendall(message)
        assert more_of(client) == encode(0x88, b"\x03\xe8")
        closed.set()
        wait_until(lambda: not missing[0])
        assert client.recv(65536) == b""


def test_an_origin_that_needs_nothing_more_behind_its_end_is_no_failure(proxy_factory, raw_origin):
    """RFC 9113 §8.1; with a Close frame that the client has not answered yet."""

    def script(peer, number):
        meet(peer)
        peer.send(
            TUNNEL,
            DataFrame(1, data=encode(0x88, b"\x03\xe8"), flags=["END_STREAM"]),
            RstStreamFrame(1, error_code=0),
        )
        peer.rest()

    hooks = Logging(raw_origin(script).address)
    client, _head = upgraded(proxy_factory(hooks))
    with client:
        got = b""
        while data := client.recv(65536):
            got += data
        assert got == encode(0x88, b"\x03\xe8")
        client.sendall(encode(0x88, b"\x03\xe8", bytes(4)))
    wait_until(lambda: hooks.errors)
    assert hooks.errors == [(None, None)]
