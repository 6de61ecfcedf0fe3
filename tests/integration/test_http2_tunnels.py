"""Tunnels of clients of HTTP/2 whose sides end one after the other: all arrives, and none is kept for ever."""

import os
import queue
import socket

import pytest
from conversations import Forwarding, wait_until
from h2_upstream import To
from http2_frames import CODES, GET, FrameClient, replaced
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame
from inside import narrow, settle
from unread_answers import held
from websockets.utils import accept_key

from pingora import ForwardProxy, Limits
from pingora_c.ws.frame import encode

WINDOW = 65535  # of a stream and of the connection, until the proxy gives more
SIZES = [60_000, 300_000]  # what fits into it, and what does not
ALL = 1 << 20
WEBSOCKET = [*replaced(GET, method="CONNECT"), (":protocol", "websocket"), ("sec-websocket-version", "13")]
OF_A_CONNECTION = 4 * 4096


def switched(request):
    key = request.partition(b"\r\nSec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accept = accept_key(key.decode()).encode()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
    )


class Slow:
    """The other end of a tunnel: ends its side at once, and takes as many bytes as it is told to, time and again.

    What it `got`, and how that `ended`.
    """

    def __init__(self):
        self.sizes = queue.SimpleQueue()
        self.got, self.ended = b"", None

    def take(self, connection):
        connection.shutdown(socket.SHUT_WR)
        try:
            while self.ended is None:
                wanted = len(self.got) + self.sizes.get(timeout=10)
                while len(self.got) < wanted and self.ended is None:
                    more = connection.recv(min(4096, wanted - len(self.got)))
                    self.got += more
                    self.ended = None if more else "FIN"
        except OSError as error:
            self.ended = type(error).__name__

    def switch_and_take(self, connection, data):
        connection.sendall(switched(data))
        self.take(connection)

    def take_frames(self, peer, number):
        """Take a WebSocket over HTTP/2 through a window that is as wide as it is told."""
        peer.preface()
        settings = {SettingsFrame.ENABLE_CONNECT_PROTOCOL: 1, SettingsFrame.INITIAL_WINDOW_SIZE: 0}
        peer.send(SettingsFrame(0, settings=settings), SettingsFrame(0, flags=["ACK"]))
        stream = peer.request()
        peer.send(HeadersFrame(stream, data=b"\x88", flags=["END_HEADERS"]))
        peer.send(DataFrame(stream, flags=["END_STREAM"]))
        peer.send(WindowUpdateFrame(0, window_increment=ALL))
        while self.ended is None:
            size = self.sizes.get(timeout=10)
            wanted = len(self.got) + size
            peer.send(WindowUpdateFrame(stream, window_increment=size))
            while len(self.got) < wanted and self.ended is None:
                frame = peer.frame()
                if isinstance(frame, RstStreamFrame):
                    self.ended = CODES[frame.error_code]
                elif isinstance(frame, DataFrame):
                    self.got += frame.data
                    self.ended = "FIN" if "END_STREAM" in frame.flags else None


class Uploader(FrameClient):
    """A tunnel whose other side has ended; sends `data` and END_STREAM as far as the windows allow."""

    def __init__(self, proxy, fields, data):
        super().__init__(proxy)
        self.data, self.has_ended = data, False
        self.windows = {0: WINDOW, 1: WINDOW}
        self.send(self.head(fields, end=False))
        while "END_STREAM" not in self.next().flags:
            pass
        self.fill()

    def fill(self):
        while not self.has_ended and (size := min(16384, *self.windows.values(), len(self.data))):
            piece, self.data = self.data[:size], self.data[size:]
            self.has_ended = not self.data
            self.send(DataFrame(1, data=piece, flags=["END_STREAM"] if self.has_ended else []))
            self.windows = {place: window - size for place, window in self.windows.items()}

    def next(self):
        """Take a frame; if it gives a window, send on."""
        frame = next(self.frames())
        if frame.stream_id in self.windows:
            assert not isinstance(frame, RstStreamFrame), CODES[frame.error_code]
            if isinstance(frame, WindowUpdateFrame):
                self.windows[frame.stream_id] += frame.window_increment
                self.fill()
        return frame

    def settle(self):
        """Take what has come."""
        self.send(PingFrame(opaque_data=b"all seen"))
        while not isinstance(self.next(), PingFrame):
            pass


def assert_all_arrives(proxy, fields, slow, size):
    """Let the other end take just so much that the client's end has come, and then the rest."""
    sent = encode(0x82, os.urandom(size - 14), bytes(4))
    with Uploader(proxy, fields, sent) as client:
        while not client.has_ended:
            slow.sizes.put(4096)
            settle(proxy)
            client.settle()
        settle(proxy)
        slow.sizes.put(ALL)
        wait_until(lambda: slow.ended)
    assert slow.ended == "FIN"
    assert slow.got == sent, f"{len(slow.got)} of {len(sent)} bytes"
    wait_until(lambda: not proxy.serving.activity()[1])


def narrowing(kind, address):
    """A class of proxies whose sockets to `address` take only a few KiB."""

    class Narrowing(kind):
        def connected_to_upstream(self, session, peer, reused, ctx):
            narrow(address)

    return Narrowing


@pytest.mark.parametrize("size", SIZES)
def test_a_target_that_ended_its_side_gets_all_of_a_connect(proxy_factory, peer_factory, size):
    slow = Slow()
    target = peer_factory(slow.take)
    target.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    proxy = proxy_factory(narrowing(ForwardProxy, target.listener.getsockname())([target.address]))
    assert_all_arrives(proxy, [(":method", "CONNECT"), (":authority", target.address)], slow, size)


@pytest.mark.parametrize("size", SIZES)
def test_an_origin_that_ended_its_side_gets_all_of_a_websocket(proxy_factory, origin_factory, size):
    slow = Slow()
    origin = origin_factory(slow.switch_and_take)
    origin._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    proxy = proxy_factory(narrowing(Forwarding, origin._listener.getsockname())(origin.address))
    assert_all_arrives(proxy, WEBSOCKET, slow, size)


@pytest.mark.parametrize("size", SIZES)
def test_an_origin_of_http2_that_ended_its_side_gets_all_of_a_websocket(proxy_factory, h2_origin, size):
    slow = Slow()
    proxy = proxy_factory(To(h2_origin.raw(slow.take_frames).address))
    assert_all_arrives(proxy, WEBSOCKET, slow, size)


# -- a client that opens no window

STALLED = [
    'pingora_failures_total{reason="client_stalled"}',
    'pingora_connections_closed_total{reason="client_stalled"}',  # of answers whose session has ended
]


@pytest.mark.parametrize("ends", [True, False], ids=["both have ended", "the target has ended"])
def test_a_tunnel_whose_client_takes_nothing_is_reset_after_write_timeout(proxy_factory, peer_factory, ends):
    """Also if nothing but the client's window keeps it."""

    def send_and_end(connection):
        connection.sendall(b"x" * 60_000)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass

    target = peer_factory(send_and_end)
    proxy = proxy_factory(ForwardProxy([target.address]), Limits(write_timeout=0.3))
    before = held()
    with FrameClient(proxy, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as client:
        client.send(client.head([(":method", "CONNECT"), (":authority", target.address)], end=False))
        client.until(lambda frame: isinstance(frame, HeadersFrame))
        if ends:
            client.send(DataFrame(1, flags=["END_STREAM"]))
        reset = client.until(lambda frame: isinstance(frame, RstStreamFrame))
        assert (reset.stream_id, CODES[reset.error_code]) == (1, "CANCEL")
        assert client.is_alive()
        wait_until(lambda: held() <= before + OF_A_CONNECTION)
    wait_until(lambda: held() <= before and not proxy.serving.n_connections)
    assert sum(proxy.serving.counters[name] for name in STALLED) == 1
