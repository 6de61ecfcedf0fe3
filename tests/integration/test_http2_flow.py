"""Flow of bodies over HTTP/2: windows, streams beside each other, WebSocket, limits of time, ends of connections."""

import socket
import threading
import time

import pytest
from conversations import Forwarding, proxy_to, wait_until
from http2_frames import GET, POST, FrameClient, replaced
from hyperframe.frame import DataFrame, GoAwayFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame
from websockets.utils import accept_key

from pingora import Limits, Response
from pingora_c.mem.buffer_pool import stats

WINDOW = SettingsFrame.INITIAL_WINDOW_SIZE
LARGE = 3_000_000


def sized(connection, data):
    """An origin whose answer is as long as the path says."""
    size = int(data.split()[1][1:])
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)


def path(size):
    return replaced(GET, path=f"/{size}")


def test_refused_requests_use_up_a_connection_too(proxy_factory):
    proxy = proxy_factory(proxy_to("127.0.0.1:1"), Limits(connection_requests=3))
    with FrameClient(proxy) as client:
        for stream_id in (1, 3, 5):
            client.request(replaced(GET, method="TRACE"), stream_id)
            assert client.answer(stream_id)["status"] == 405
        assert client.is_closed()


def test_a_large_answer_arrives_whole(proxy_factory, origin_factory):
    with FrameClient(proxy_factory(proxy_to(origin_factory(sized).address))) as client:
        client.request(path(LARGE))
        assert client.answer()["body"] == b"x" * LARGE


def test_a_large_upload_arrives_whole_within_the_windows(proxy_factory, origin_factory):
    received = []

    def count(connection, data):
        left = LARGE - len(data.partition(b"\r\n\r\n")[2])
        while left:
            left -= len(connection.recv(65536))
        received.append(LARGE)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with FrameClient(proxy_factory(proxy_to(origin_factory(count).address))) as client:
        client.send(client.head([*POST, ("content-length", str(LARGE))], end=False))
        windows = {0: 65535, 1: 65535}
        sent = 0
        frames = client.frames()
        while sent < LARGE:
            size = min(*windows.values(), 16384, LARGE - sent)
            if size == 0:
                frame = next(frames)
                if isinstance(frame, WindowUpdateFrame):
                    windows[frame.stream_id] += frame.window_increment
                elif isinstance(frame, SettingsFrame) and WINDOW in frame.settings:
                    windows[1] += frame.settings[WINDOW] - 65535
                continue
            client.send(DataFrame(1, data=b"y" * size, flags=["END_STREAM"] if sent + size == LARGE else []))
            sent += size
            windows = {place: left - size for place, left in windows.items()}
        assert client.answer()["status"] == 200
    assert received == [LARGE]


def test_a_stream_that_is_not_read_stalls_no_neighbour_and_bounds_what_waits(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(sized).address))
    with FrameClient(proxy, settings={WINDOW: 1000}) as client:
        for stream_id in range(1, 21, 2):
            client.request(path(5_000_000), stream_id)
        for stream_id in range(21, 41, 2):
            client.request(path(500), stream_id)
            assert client.answer(stream_id)["body"] == b"x" * 500
        now = stats()
        assert now["lent_bytes"] + now["reserved_bytes"] < 10 * 256 * 1024


def test_a_body_that_no_hook_wants_yet_waits_at_the_client(proxy_factory):
    class Late(Forwarding):
        async def request_filter(self, session, ctx):
            return Response(200, {}, str(len(await session.read_body())))

    with FrameClient(proxy_factory(Late("127.0.0.1:1"))) as client:
        client.request(POST, body=b"z" * 16384)
        assert client.answer()["body"] == b"16384"


def test_streams_run_beside_each_other(proxy_factory, origin_factory):
    both = threading.Barrier(5)

    def together(connection, data):
        both.wait(10)
        sized(connection, data)

    with FrameClient(proxy_factory(proxy_to(origin_factory(together).address))) as client:
        for stream_id in range(1, 11, 2):
            client.request(path(stream_id), stream_id)
        got = {}
        for frame in client.frames():
            if isinstance(frame, DataFrame):
                got[frame.stream_id] = got.get(frame.stream_id, 0) + len(frame.data)
            if got == {1: 1, 3: 3, 5: 5, 7: 7, 9: 9}:
                break
    assert set(got) == {1, 3, 5, 7, 9}


def test_a_window_that_stays_shut_resets_the_stream(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(sized).address), Limits(write_timeout=0.2))
    with FrameClient(proxy, settings={WINDOW: 0}) as client:
        client.request(path(200_000))
        assert client.until(lambda frame: isinstance(frame, RstStreamFrame)).stream_id == 1
        assert client.is_alive()
    assert proxy.serving.counters['pingora_failures_total{reason="client_stalled"}'] == 1


def test_a_window_that_lets_little_through_resets_the_stream_at_write_rate(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(sized).address), Limits(write_timeout=0.2, write_rate=1_000_000))
    reset = None
    with FrameClient(proxy, settings={WINDOW: 100}) as client:
        client.request(path(200_000))
        while reset is None:  # a hundred bytes more for each that came
            frame = client.until(lambda frame: isinstance(frame, DataFrame | RstStreamFrame))
            if isinstance(frame, RstStreamFrame):
                reset = frame
            else:
                time.sleep(0.02)  # what is tested is how fast it reads
                client.send(WindowUpdateFrame(1, window_increment=len(frame.data)))
        assert client.is_alive()
    assert proxy.serving.counters['pingora_failures_total{reason="client_reads_slowly"}'] == 1


def test_a_body_that_stops_coming_is_answered_408(proxy_factory, origin_factory):
    proxy = proxy_factory(
        proxy_to(origin_factory(lambda connection, _data: connection.recv(99999)).address), Limits(body_timeout=0.2)
    )
    with FrameClient(proxy) as client:
        client.send(client.head(replaced(POST, path="/1"), end=False), DataFrame(1, data=b"part"))
        assert client.answer()["status"] == 408


def test_a_head_that_stops_coming_ends_the_connection(proxy_factory):
    proxy = proxy_factory(proxy_to("127.0.0.1:1"), Limits(head_timeout=0.2))
    with FrameClient(proxy) as client:
        assert client.is_alive()
        frame = client.head(GET)
        frame.flags.discard("END_HEADERS")
        client.send(frame)
        assert client.refusal() == "ENHANCE_YOUR_CALM"
    assert proxy.serving.counters['pingora_refusals_total{reason="head_timeout"}'] == 1


def test_a_connection_without_streams_ends_after_keep_alive(proxy_factory):
    proxy = proxy_factory(proxy_to("127.0.0.1:1"), Limits(keep_alive=0.2))
    with FrameClient(proxy) as client:
        goaway = client.until(lambda frame: isinstance(frame, GoAwayFrame))
        assert goaway.error_code == 0
        assert client.is_closed()
    assert proxy.serving.counters['pingora_connections_closed_total{reason="keep_alive"}'] == 1


def test_after_so_many_requests_the_client_is_told_to_go(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(sized).address), Limits(connection_requests=2))
    with FrameClient(proxy) as client:
        client.request(path(1))
        assert client.answer()["status"] == 200
        client.request(path(1), 3)
        first = client.until(lambda frame: isinstance(frame, GoAwayFrame))
        assert (first.error_code, first.last_stream_id) == (0, 2**31 - 1)
        last = client.until(lambda frame: isinstance(frame, GoAwayFrame))
        assert (last.error_code, last.last_stream_id) == (0, 3)
        assert client.is_closed()


def test_a_stop_announces_itself_and_loses_no_request(proxy_factory):
    class Slow(Forwarding):
        async def request_filter(self, session, ctx):
            reached.set()
            await self.go.wait()
            return Response(200, {}, b"done")

        async def worker_start(self):
            pass

    import asyncio

    reached = threading.Event()
    hooks = Slow("127.0.0.1:1")
    hooks.go = asyncio.Event()
    proxy = proxy_factory(hooks)
    with FrameClient(proxy) as client:
        client.request()
        assert reached.wait(10)
        closing = threading.Thread(target=proxy.close)
        closing.start()
        assert client.until(lambda frame: isinstance(frame, GoAwayFrame)).error_code == 0
        proxy._loop.call_soon_threadsafe(hooks.go.set)
        assert client.answer()["body"] == b"done"
        closing.join(20)
        assert client.is_closed()


def test_a_client_that_leaves_ends_its_sessions(proxy_factory, origin_factory):
    asked = threading.Event()

    def silent(connection, _data):
        asked.set()
        connection.recv(1)

    proxy = proxy_factory(proxy_to(origin_factory(silent).address))
    with FrameClient(proxy) as client:
        client.request()
        assert asked.wait(10)
    assert wait_until(lambda: proxy.serving.counters['pingora_failures_total{reason="client_gone"}'] == 1)
    assert wait_until(lambda: proxy.serving.counters["pingora_connections_open"] == 0)


CONNECT = [*replaced(GET, method="CONNECT"), (":protocol", "websocket"), ("sec-websocket-version", "13")]


def switched(request):
    """The answer of an origin that takes the upgrade."""
    key = request.partition(b"\r\nSec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: chat\r\n\r\n" % accept_key(key.decode()).encode()
    )


def switch(connection, data):
    """An origin that takes the upgrade and says everything twice."""
    assert b"\r\nUpgrade: websocket\r\n" in data
    connection.sendall(switched(data))
    while said := connection.recv(4096):
        connection.sendall(said * 2)
    connection.shutdown(socket.SHUT_WR)


def test_an_extended_connect_is_a_websocket(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(switch).address))
    with FrameClient(proxy) as client:
        client.send(client.head(CONNECT, end=False), DataFrame(1, data=b"early"))
        frames = client.frames()
        head = next(frame for frame in frames if frame.stream_id == 1 and hasattr(frame, "fields"))
        fields = dict(head.fields)
        assert (fields[":status"], fields["sec-websocket-protocol"]) == ("200", "chat")
        assert not {"sec-websocket-accept", "upgrade", "connection"} & set(fields)
        said = b""
        while said != b"earlyearly":
            said += next(frame for frame in frames if isinstance(frame, DataFrame)).data
        client.send(DataFrame(1, data=b"more", flags=["END_STREAM"]))
        said = b""
        for frame in frames:
            if isinstance(frame, DataFrame):
                said += frame.data
                if "END_STREAM" in frame.flags:
                    break
        assert said == b"moremore"


def test_a_websocket_whose_window_stays_shut_is_cut_whatever_its_client_says(proxy_factory, origin_factory):
    def much(connection, data):
        connection.sendall(switched(data) + b"x" * 1_000_000)
        while connection.recv(4096):
            pass

    proxy = proxy_factory(proxy_to(origin_factory(much).address), Limits(write_timeout=0.3))
    is_over = threading.Event()
    with FrameClient(proxy, settings={WINDOW: 0}) as client:
        client.send(client.head(CONNECT, end=False))

        def talk():
            while not is_over.wait(0.05):
                client.send(DataFrame(1, data=b"and"))

        talking = threading.Thread(target=talk)
        talking.start()
        assert client.until(lambda frame: isinstance(frame, RstStreamFrame)) is not None
        is_over.set()
        talking.join()
    assert wait_until(lambda: proxy.serving.counters['pingora_failures_total{reason="client_stalled"}'] == 1)


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", (403, None)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", (None, "CONNECT_ERROR")),
    ],
)
def test_an_origin_that_does_not_switch_opens_no_tunnel(proxy_factory, origin_factory, script, outcome):
    with FrameClient(proxy_factory(proxy_to(origin_factory(script).address))) as client:
        client.send(client.head(CONNECT, end=False))
        got = client.answer()
        assert (got["status"], got["reset"]) == outcome
