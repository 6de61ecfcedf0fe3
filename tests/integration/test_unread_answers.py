"""What waits for clients that do not read: little, however many answers they ask for, and all of it arrives later."""

import pytest
from conversations import Forwarding, proxy_to, wait_until
from http2_frames import FrameClient
from hyperframe.frame import WindowUpdateFrame
from unread_answers import HELD_MOST, OPEN, WIDE, WINDOW, ask, bodies, held, wait_still

from pingora import Limits, Response, RetryPolicy
from pingora.testing import read_all

SIZE = 300_000  # more than two sockets take
LARGE = b"0123456789" * 800_000
BODY = bytes(range(256)) * 4096
HEADS = 3 * 4096  # of a stream: its request, its answer, and what the answer began with


def sized(connection, data):
    """An origin whose answer is as long as the path says, in chunks if that ends in "c"."""
    path = data.split()[1].decode()
    size = int(path[1:].rstrip("c"))
    if not path.endswith("c"):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + LARGE[:size])
        return
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for at in range(0, size, 5000) if (part := LARGE[at : at + 5000])]
    connection.sendall(b"".join(chunks) + b"0\r\n\r\n")


def settle(proxy, count):
    """Wait until so many requests have got as far as they get, and nothing more comes in."""

    def look():
        counters = proxy.serving.counters
        now = (held(), counters["pingora_upstream_attempts_total"])
        return now if counters["pingora_requests_total"] >= count else None

    wait_still(look)


@pytest.mark.parametrize("suffix", ["", "c"], ids=["length", "chunked"])
@pytest.mark.parametrize("count", [20, 200])
def test_answers_of_an_origin_to_a_client_that_does_not_read(proxy_factory, origin_factory, count, suffix):
    proxy = proxy_factory(proxy_to(origin_factory(sized).address), Limits(http2_streams=1000))
    ids = range(1, 2 * count, 2)
    before = held()
    with FrameClient(proxy, settings=OPEN, timeout=30) as client:
        client.sock.setsockopt(1, 8, 65536)  # SO_RCVBUF
        client.send(WIDE)
        ask(client, f"/{SIZE}{suffix}", ids)
        settle(proxy, count)
        assert held() - before < HELD_MOST + count * HEADS
        assert bodies(client, ids) == [LARGE[:SIZE]] * count


def test_more_comes_only_for_windows_that_are_open(proxy_factory, origin_factory):
    """Many streams that the client has shut hold little, and none of the others waits for them."""
    proxy = proxy_factory(proxy_to(origin_factory(sized).address))
    shut = range(1, 121, 2)
    before = held()
    with FrameClient(proxy, settings={WINDOW: 0}, timeout=30) as client:
        client.send(WIDE)
        ask(client, f"/{SIZE}", shut)
        settle(proxy, len(shut))
        assert held() - before < HELD_MOST + len(shut) * HEADS
        ask(client, f"/{len(LARGE)}", [121])
        client.send(WindowUpdateFrame(121, window_increment=100_000))
        assert bodies(client, [121]) == [LARGE]
        client.send(*[WindowUpdateFrame(i, window_increment=100_000) for i in shut])
        assert bodies(client, shut) == [LARGE[:SIZE]] * len(shut)


def test_windows_that_open_by_a_byte_bring_no_more_than_that(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(sized).address))
    ids = range(1, 201, 2)
    before = held()
    with FrameClient(proxy, settings={WINDOW: 0}, timeout=30) as client:
        client.send(WIDE)
        ask(client, f"/{SIZE}", ids)
        settle(proxy, len(ids))
        for _ in range(5):
            client.send(*[WindowUpdateFrame(i, window_increment=1) for i in ids])
            settle(proxy, len(ids))
        assert held() - before < HELD_MOST + len(ids) * HEADS


def test_an_origin_that_is_not_read_for_want_of_room_is_not_blamed(proxy_factory, origin_factory):
    app = proxy_to(origin_factory(sized).address)
    app.retry = RetryPolicy(try_timeout=5.0)  # the origin itself must answer in time, hundreds of threads at once
    proxy = proxy_factory(app, Limits(http2_streams=1000))
    ids = range(1, 801, 2)
    with FrameClient(proxy, settings={WINDOW: 0}, timeout=30) as client:
        ask(client, "/5000", ids)
        stalled = 'pingora_failures_total{reason="client_stalled"}'
        wait_until(lambda: proxy.serving.counters[stalled])
        settle(proxy, len(ids))
    assert proxy.serving.counters['pingora_upstream_failures_total{reason="try_timeout"}'] == 0


class Answering(Forwarding):
    """Answers with what all of its answers share, whole or as it comes."""

    async def request_filter(self, session, ctx):
        return Response(200, {}, self.parts() if session.request.path == "/parts" else BODY)

    async def parts(self):
        for _ in range(3):
            yield BODY


@pytest.mark.parametrize(("path", "times"), [("/whole", 1), ("/parts", 3)])
def test_answers_of_a_hook_are_not_copied_for_a_client_that_does_not_read(proxy_factory, path, times):
    proxy = proxy_factory(Answering("127.0.0.1:1"))
    ids = range(1, 201, 2)
    before = held()
    with FrameClient(proxy, settings=OPEN, timeout=30) as client:
        client.send(WIDE)
        ask(client, path, ids)
        settle(proxy, len(ids) if times == 1 else 0)
        assert held() - before < HELD_MOST + len(ids) * HEADS
        assert bodies(client, ids) == [BODY * times] * len(ids)


@pytest.mark.parametrize(("path", "times"), [("/whole", 1), ("/parts", 3)])
def test_http_1_copies_them_neither(proxy_factory, path, times):
    proxy = proxy_factory(Answering("127.0.0.1:1"))
    before = held()
    socks = [proxy.connect(30) for _ in range(20)]
    for sock in socks:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    settle(proxy, 20 if times == 1 else 0)
    assert held() - before < len(socks) * 5 * 4096
    for sock in socks:
        with sock:
            head, _, body = read_all(sock).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert body == BODY or (body.count(BODY) == times and b"chunked" in head)


def test_a_page_of_our_own_is_not_copied_either(proxy_factory):
    class Refusing(Forwarding):
        def upstream_peer(self, session, ctx):
            raise RuntimeError("nobody")

        def fail_to_proxy(self, session, error, ctx):
            return Response(500, {}, BODY)

        def suppress_error_log(self, session, error, ctx):
            return True

    proxy = proxy_factory(Refusing("127.0.0.1:1"))
    ids = range(1, 201, 2)
    before = held()
    with FrameClient(proxy, settings=OPEN, timeout=30) as client:
        client.send(WIDE)
        ask(client, "/", ids)
        settle(proxy, len(ids))
        assert held() - before < HELD_MOST + len(ids) * HEADS
        assert bodies(client, ids) == [BODY] * len(ids)
