"""Connections of HTTP/2 to origins: how many requests share one, and how many there are."""

import threading

from h2_upstream import To, ask, many


def test_concurrent_first_requests_share_one_connection(proxy_factory, h2_origin):
    origin = h2_origin(lambda request: (200, [], b"hi", []))
    proxy = proxy_factory(To(origin.address))
    answers = many(proxy, 50)
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert len(origin.connections) == 1
    assert proxy.serving.counters["pingora_upstream_h2_connections_total"] == 1


def test_a_full_connection_is_joined_by_further_ones(proxy_factory, h2_origin):
    gate = threading.Barrier(40, timeout=20)

    def script(peer, number):
        stream = peer.start()
        open_streams = [stream]
        while len(open_streams) < 10:
            open_streams.append(peer.request())
        for _ in open_streams:
            pass
        answering.release()
        assert all_open.wait(20)
        for stream in open_streams:
            peer.answer(stream)
        peer.rest()

    answering, all_open = threading.Semaphore(0), threading.Event()
    origin = h2_origin.raw(script)
    proxy = proxy_factory(To(origin.address, max_h2_streams=10))

    def release():
        for _ in range(4):
            assert answering.acquire(timeout=20)
        all_open.set()

    threading.Thread(target=release, daemon=True).start()
    answers = many(proxy, 40)
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert len(origin.connections) == 4
    gate.abort()


def test_the_origins_own_limit_of_streams_holds(proxy_factory, h2_origin):
    origin = h2_origin(lambda request: (200, [], b"hi", []), settings={3: 5})
    proxy = proxy_factory(To(origin.address))
    assert ask(proxy).startswith(b"HTTP/1.1 200 OK\r\n")
    answers = many(proxy, 60)
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert 2 <= len(origin.connections) <= 13
    assert proxy.serving.counters["pingora_upstream_h2_refused_streams_total"] == 0
