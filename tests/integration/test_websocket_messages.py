"""The hook websocket_message, with the `websockets` library as client and as origin."""

import asyncio
import contextlib
import os
import socket
import struct
import time

import pytest
from conversations import wait_until
from websocket_ends import client_of, echo, origins, proxy_before
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from pingora import DROP, Limits, ProxyHttp, WebSocketClose
from pingora.testing import read_all
from pingora_c.ws.deflate import Codec
from pingora_c.ws.frame import encode

MIB = 1024 * 1024


@pytest.fixture
def origin():
    with origins() as start:
        yield start


@pytest.fixture
def proxy_to(proxy_factory):
    def start(address, kind, limits=None):
        return proxy_before(proxy_factory, address, kind, limits)

    return start


class Seen(ProxyHttp):
    """Notes every message and passes it on."""

    def __init__(self):
        self.seen = []

    def websocket_message(self, session, ctx, direction, message):
        self.seen.append((direction, message))


class Waiting(ProxyHttp):
    async def websocket_message(self, session, ctx, direction, message):
        await asyncio.sleep(0)


class Marking(ProxyHttp):
    def websocket_message(self, session, ctx, direction, message):
        return f"{message} {direction}" if isinstance(message, str) else message + direction.encode()


class Moderating(ProxyHttp):
    """What the hook may return, by what is in the message."""

    def __init__(self):
        self.ended = []

    async def websocket_message(self, session, ctx, direction, message):
        if direction == "downstream":
            return None
        if message == "later":
            await asyncio.sleep(0)
            return "was later"
        return {
            "drop": DROP,
            "empty": "",
            "binary": bytearray(b"\x00\x01"),
            "text": "text again",
            "close": WebSocketClose(4321, "not here"),
            "number": 7,
            "surrogate": "\ud800",
        }.get(message)

    def logging(self, session, error, ctx):
        self.ended.append((None if error is None else error.reason, session.response.status))


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("kind", [Seen, Waiting])
@pytest.mark.parametrize(
    "message",
    [
        pytest.param("grüße 👋", id="text"),
        pytest.param(b"\x00\xff\r\n", id="binary"),
        pytest.param("", id="empty text"),
        pytest.param(b"", id="empty binary"),
        pytest.param("ä" * (MIB // 2), id="text of 1 MiB"),
        pytest.param(os.urandom(MIB), id="binary of 1 MiB"),
    ],
)
def test_a_message_comes_back_the_same(origin, proxy_to, compression, kind, message):
    address, ends = origin(echo, compression=compression)
    with client_of(proxy_to(address, kind), compression=compression) as client:
        for _ in range(3):
            client.send(message)
            assert client.recv(timeout=10) == message
    assert ends.wait() == (1000, "")


def test_the_hook_sees_both_directions_in_order(origin, proxy_to):
    address, _ends = origin(echo)
    proxy = proxy_to(address, Seen)
    with client_of(proxy) as client:
        for message in ("one", b"two", "three"):
            client.send(message)
            client.recv(timeout=10)
        (service,) = proxy.serving.services
        seen = service.plan.proxy.seen
    assert seen == [(way, message) for message in ("one", b"two", "three") for way in ("upstream", "downstream")]


def test_a_changed_message_arrives_changed(origin, proxy_to):
    address, _ends = origin(echo)
    with client_of(proxy_to(address, Marking)) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello upstream downstream"
        client.send(b"hello ")
        assert client.recv(timeout=10) == b"hello upstreamdownstream"


def test_a_hook_may_drop_empty_and_retype_messages(origin, proxy_to):
    address, _ends = origin(echo)
    with client_of(proxy_to(address, Moderating)) as client:
        for message in ("drop", "empty", "drop", "binary", "later", "text", "drop", "last"):
            client.send(message)
        assert [client.recv(timeout=10) for _ in range(5)] == ["", b"\x00\x01", "was later", "text again", "last"]


def test_a_hook_may_close_both_sides(origin, proxy_to):
    address, ends = origin(echo)
    proxy = proxy_to(address, Moderating)
    with client_of(proxy) as client:
        client.send("close")
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=10)
        assert (client.close_code, client.close_reason) == (4321, "not here")
    assert ends.wait() == (4321, "not here")
    (service,) = proxy.serving.services
    wait_until(lambda: (service.n_active, service.n_websockets) == (0, 0))
    assert service.plan.proxy.ended == [(None, 101)]


@pytest.mark.parametrize("message", ["number", "surrogate"])
def test_a_hook_that_raises_closes_both_sides_with_1011(origin, proxy_to, caplog, message):
    address, ends = origin(echo)
    proxy = proxy_to(address, Moderating)
    with client_of(proxy) as client:
        client.send(message)
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=10)
        assert client.close_code == 1011
    assert ends.wait()[0] == 1011
    (service,) = proxy.serving.services
    wait_until(lambda: service.n_active == 0)
    assert service.plan.proxy.ended == [("hook_raised", 101)]
    assert "websocket_message" in caplog.text
    assert ("expected None, str, bytes" if message == "number" else "surrogates not allowed") in caplog.text


def test_a_hook_that_takes_too_long_closes_both_sides_with_1011(origin, proxy_to, caplog):
    class Slow(ProxyHttp):
        hook_timeouts = {"websocket_message": 0.1}

        async def websocket_message(self, session, ctx, direction, message):
            await asyncio.sleep(60)

    address, ends = origin(echo)
    with client_of(proxy_to(address, Slow)) as client:
        client.send("hello")
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=10)
        assert client.close_code == 1011
    assert ends.wait()[0] == 1011
    wait_until(lambda: "hook_timeout" in caplog.text)


def test_fragments_and_pings_between_them_pass(origin, proxy_to):
    pings = []

    def handle(connection):
        pings.append(connection.ping(b"from the origin").wait(10))
        echo(connection)

    address, _ends = origin(handle)
    with client_of(proxy_to(address, Seen)) as client:

        def fragments():
            for fragment in ("a", "b" * 70_000, "", "c"):
                yield fragment
                assert client.ping().wait(10)

        client.send(fragments())
        assert client.recv(timeout=10) == "a" + "b" * 70_000 + "c"
    assert pings == [True]


CODES = [(1000, ""), (1001, "going away"), (4321, "of the application")]


@pytest.mark.parametrize(("code", "reason"), CODES)
def test_a_close_of_either_side_reaches_the_other(origin, proxy_to, code, reason):
    address, ends = origin(echo)
    with client_of(proxy_to(address, Seen)) as client:
        client.close(code, reason)
    assert ends.wait() == (code, reason)
    address, ends = origin(lambda connection: connection.close(code, reason))
    with client_of(proxy_to(address, Seen)) as client:
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)
    assert ends.wait() == (code, reason)


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("whole", [True, False], ids=["one frame", "fragments"])
def test_a_message_beyond_the_limit_is_closed_with_1009(origin, proxy_to, compression, whole):
    address, ends = origin(echo, compression=compression)
    proxy = proxy_to(address, Seen, Limits(message_bytes=1000))
    with client_of(proxy, compression=compression) as client:
        client.send("a" * 1000)
        assert client.recv(timeout=10) == "a" * 1000
        with contextlib.suppress(ConnectionClosedError):  # before the last, empty fragment is sent
            client.send("a" * 1001 if whole else ["a" * 500, "a" * 501])
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=10)
        assert (client.close_code, client.close_reason) == (1009, "message_too_big")
    assert ends.wait()[0] == 1001
    (service,) = proxy.serving.services
    wait_until(lambda: proxy.serving.counters['pingora_failures_total{reason="client_bad_frame"}'] == 1)
    assert [message for way, message in service.plan.proxy.seen if way == "upstream"] == ["a" * 1000]


def test_a_compressed_bomb_is_closed_without_its_memory(origin, proxy_to):
    address, _ends = origin(echo)
    # with more than 4 MiB of buffers it would end as no_memory, 1011
    with client_of(proxy_to(address, Seen, Limits(buffered_bytes=4 * MIB))) as client:
        client.send(bytes(64 * MIB))
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=10)
        assert client.close_code == 1009


def test_too_many_fragments_are_closed_with_1008(origin, proxy_to):
    address, ends = origin(echo)
    with client_of(proxy_to(address, Seen, Limits(message_fragments=5))) as client:
        client.send(["a"] * 4)  # and the last frame, which is empty
        assert client.recv(timeout=10) == "aaaa"
        client.send(["a"] * 5)
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=10)
        assert (client.close_code, client.close_reason) == (1008, "too_many_fragments")
    assert ends.wait()[0] == 1001


BAD = [
    ("reserved bit", lambda: bytes([0xA1, 0x80]) + bytes(4), 1002, "reserved_bits"),
    ("not masked", lambda: b"\x81\x00", 1002, "bad_masking"),
    ("text that is no UTF-8", lambda: b"\x81\x82\x00\x00\x00\x00\xc3\x28", 1007, "bad_utf8"),
    ("close with a bad code", lambda: b"\x88\x82\x00\x00\x00\x00\x03\xee", 1002, "bad_close_frame"),
    ("bad compressed data", lambda: b"\xc1\x83\x00\x00\x00\x00\xff\xff\xff", 1007, "bad_compressed_data"),
]


@pytest.mark.parametrize(("octets", "code", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_client_that_breaks_the_protocol_is_told_how(origin, proxy_to, caplog, octets, code, reason):
    address, ends = origin(echo)
    with client_of(proxy_to(address, Seen)) as client:
        with client.protocol_mutex:
            client.socket.sendall(octets())
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)
        assert (client.close_code, client.close_reason) == (code, reason)
    assert ends.wait()[0] == 1001
    wait_until(lambda: "client_bad_frame" in caplog.text)
    assert reason in caplog.text


def test_an_origin_that_breaks_the_protocol_is_told_how(origin, proxy_to, caplog):
    def broken(connection):
        connection.socket.sendall(b"\x83\x00")
        with contextlib.suppress(ConnectionClosed):
            connection.recv(timeout=10)

    address, ends = origin(broken)
    with client_of(proxy_to(address, Seen)) as client:
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)
        assert client.close_code == 1001
    assert ends.wait() == (1002, "reserved_opcode")
    wait_until(lambda: "upstream_bad_frame" in caplog.text)


EXTENSIONS = [
    (client_resets, server_resets, bits)
    for client_resets in (False, True)
    for server_resets in (False, True)
    for bits in (9, 12, 15)
]


@pytest.mark.parametrize(("client_resets", "server_resets", "bits"), EXTENSIONS)
def test_every_way_to_negotiate_compression_works(origin, proxy_to, client_resets, server_resets, bits):
    offered = ClientPerMessageDeflateFactory(server_resets, client_resets, bits, bits)
    taken = ServerPerMessageDeflateFactory(server_resets, client_resets, bits, bits)
    address, _ends = origin(echo, compression=None, extensions=[taken])
    with client_of(proxy_to(address, Marking), compression=None, extensions=[offered]) as client:
        for _ in range(2):
            for text in ("a", "hello hello hello " * 100, "", str(list(range(3000)))):
                client.send(text)
                assert client.recv(timeout=10) == f"{text} upstream downstream"


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"


def test_a_window_that_zlib_does_not_have_is_sent_to_uncompressed(proxy_factory, origin_factory):
    frames = []

    def script(connection, data):
        extension = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=8\r\n\r\n"
        connection.sendall(SWITCHING + extension)
        reader = StreamReader()
        reader.feed_data(read_all(connection))
        parser = Frame.parse(reader.read_exact, mask=True, extensions=[])
        try:
            next(parser)
        except StopIteration as stop:
            frames.append(stop.value)

    proxy = proxy_before(proxy_factory, origin_factory(script).address, Seen)
    proxy.exchange(HANDSHAKE + encode(0xC1, Codec(9).deflate(b"hello"), b"abcd"))
    wait_until(lambda: frames)
    assert (bytes(frames[0].data), frames[0].rsv1) == (b"hello", False)


def test_an_extension_that_is_not_known_is_not_offered_to_the_origin(origin, proxy_to):
    offers = []

    def note(connection):
        offers.append(connection.request.headers.get_all("sec-websocket-extensions"))

    address, ends = origin(note)
    proxy = proxy_to(address, Seen)
    headers = {"Sec-WebSocket-Extensions": "x-unknown; a=1"}
    with client_of(proxy, additional_headers=headers) as client:
        client.send("go on")
    ends.wait()
    with client_of(proxy, compression=None, additional_headers=headers) as client:
        client.send("go on")
    ends.wait()
    assert offers == [["permessage-deflate; client_max_window_bits"], []]


def test_an_origin_that_agrees_to_what_was_not_offered_is_502(proxy_factory, origin_factory):
    answer = SWITCHING + b"Sec-WebSocket-Extensions: x-unknown\r\n\r\n"
    proxy = proxy_before(proxy_factory, origin_factory(answer).address, Seen)
    assert proxy.exchange(HANDSHAKE).startswith(b"HTTP/1.1 502 ")


def test_another_protocol_than_websocket_passes_as_it_is(proxy_factory, origin_factory):
    def script(connection, data):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\xff\xff")
        connection.sendall(read_all(connection))

    proxy = proxy_before(proxy_factory, origin_factory(script).address, Seen)
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\x83\x83\x83"
    assert proxy.exchange(request).endswith(b"\r\n\r\n\xff\xff\x83\x83\x83")


@pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("kind", [Seen, Waiting])
def test_a_client_that_vanishes_is_seen_by_the_origin_and_leaves_nothing(origin, proxy_to, kind, is_reset):
    address, ends = origin(echo)
    proxy = proxy_to(address, kind)
    with client_of(proxy) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
        if is_reset:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close_socket()
    assert ends.wait()[0] == 1006
    (service,) = proxy.serving.services
    wait_until(lambda: (service.n_active, service.n_connections, service.n_websockets) == (0, 0, 0))


def test_an_origin_that_vanishes_is_seen_by_the_client(origin, proxy_to):
    address, _ends = origin(lambda connection: connection.socket.shutdown(socket.SHUT_RDWR))
    proxy = proxy_to(address, Seen)
    with client_of(proxy) as client, pytest.raises(ConnectionClosedError) as closed:
        client.recv(timeout=10)
    assert closed.value.rcvd is None
    (service,) = proxy.serving.services
    wait_until(lambda: (service.n_active, service.n_connections, service.n_websockets) == (0, 0, 0))


def test_what_was_said_before_a_half_close_arrives_though_the_hook_awaits(proxy_factory, origin_factory):
    class Later(ProxyHttp):
        async def websocket_message(self, session, ctx, direction, message):
            await asyncio.sleep(0.01)

    def script(connection, data):
        connection.sendall(
            SWITCHING + b"\r\n" + b"".join(Frame(Opcode.TEXT, b"%d" % i).serialize(mask=False) for i in range(20))
        )

    proxy = proxy_before(proxy_factory, origin_factory(script).address, Later)
    with proxy.connect() as client:
        client.sendall(HANDSHAKE)
        client.shutdown(socket.SHUT_WR)
        got = read_all(client).partition(b"\r\n\r\n")[2]
    assert got == b"".join(Frame(Opcode.TEXT, b"%d" % i).serialize(mask=False) for i in range(20))


MANY = 128  # of 1 MiB; a socket of the kernel may take 32 of them, and there are four


@pytest.mark.parametrize("kind", [Seen, Waiting])
def test_a_receiver_that_pauses_holds_the_sender_back_and_loses_nothing(origin, proxy_to, kind):
    chunk = os.urandom(MIB)
    progress = []

    def flood(connection):
        for i in range(MANY):
            connection.send(chunk)
            progress.append(i)

    def has_stalled():
        before = len(progress)
        time.sleep(0.2)
        return before == len(progress)

    address, _ends = origin(flood, compression=None)
    with client_of(proxy_to(address, kind), compression=None, max_queue=1) as client:
        wait_until(has_stalled)
        assert len(progress) < MANY, "so much does not fit into the kernel's buffers: the proxy kept it"
        for _ in range(MANY):
            assert client.recv(timeout=10) == chunk


def test_a_slow_hook_holds_its_direction_back_and_not_the_other(origin, proxy_to):
    class OneSlow(ProxyHttp):
        def __init__(self):
            self.gate = asyncio.Event()
            self.n = 0

        async def websocket_message(self, session, ctx, direction, message):
            self.n += 1
            if direction == "upstream":
                await self.gate.wait()

    def talk(connection):
        for i in range(100):
            connection.send(str(i))
        echo(connection)

    address, _ends = origin(talk)
    proxy = proxy_to(address, OneSlow)
    (service,) = proxy.serving.services
    hooks = service.plan.proxy
    with client_of(proxy) as client:
        client.send("first")
        client.send("second")
        assert [client.recv(timeout=10) for _ in range(100)] == [str(i) for i in range(100)]
        wait_until(lambda: hooks.n == 101)  # "second" waits for "first"

        async def go_on():
            hooks.gate.set()

        proxy.call(go_on())
        assert [client.recv(timeout=10) for _ in range(2)] == ["first", "second"]


def test_many_small_messages_through_a_slow_hook_keep_their_order(origin, proxy_to):
    address, _ends = origin(echo)
    with client_of(proxy_to(address, Waiting)) as client:
        for i in range(500):
            client.send(str(i))
        assert [client.recv(timeout=10) for _ in range(500)] == [str(i) for i in range(500)]


def test_a_ping_is_no_message(origin, proxy_to):
    address, _ends = origin(echo)
    proxy = proxy_to(address, Seen)
    with client_of(proxy) as client:
        assert client.ping(b"hello").wait(10)
        client.close()
    with pytest.raises(ConnectionClosedOK):
        client.recv()
    (service,) = proxy.serving.services
    assert service.plan.proxy.seen == []
