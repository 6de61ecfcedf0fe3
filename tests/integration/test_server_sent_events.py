"""Server-sent events: each arrives before the next one is sent, whatever hooks look at them."""

import asyncio
import contextlib
import socket
import threading

import pytest
from pki import Authority
from websocket_ends import proxy_before

from pingora import Certificate, HttpModule, LastChunk, Limits, LoadBalancer, ProxyHttp, TlsSettings

N = 12
EVENT = b"id: %d\ndata: hello\n\n"


class Heads(ProxyHttp):
    def response_filter(self, session, response, ctx):
        response.headers["x-seen"] = "yes"


class HeadsLater(ProxyHttp):
    async def upstream_response_filter(self, session, response, ctx):
        await asyncio.sleep(0)

    async def response_filter(self, session, response, ctx):
        await asyncio.sleep(0)


class Body(ProxyHttp):
    def response_body_filter(self, session, chunk, end, ctx):
        return None


class BodyChanged(ProxyHttp):
    def response_body_filter(self, session, chunk, end, ctx):
        return chunk.replace(b"hallo", b"hello")


class BodyLater(ProxyHttp):
    async def upstream_response_body_filter(self, session, chunk, end, ctx):
        await asyncio.sleep(0)
        return chunk

    async def response_body_filter(self, session, chunk, end, ctx):
        await asyncio.sleep(0)


class Trailers(ProxyHttp):
    def response_trailer_filter(self, session, trailers, ctx):
        pass


class Passed(Body):
    def response_filter(self, session, response, ctx):
        session.pass_response_body()


class OfModule(HttpModule):
    async def response_body_filter(self, session, chunk, end, ctx):
        return chunk


class Moduled(Body):
    modules = [OfModule(), OfModule()]


class Until(ProxyHttp):
    """Ends the stream itself behind the last event."""

    def response_body_filter(self, session, chunk, end, ctx):
        return LastChunk(chunk) if b"id: %d\n" % (N - 1) in chunk else None


KINDS = [ProxyHttp, Heads, HeadsLater, Body, BodyChanged, BodyLater, Trailers, Passed, Moduled, Until]
FRAMINGS = {
    "chunked": (b"Transfer-Encoding: chunked\r\n", lambda event: b"%x\r\n%s\r\n" % (len(event), event)),
    "close": (b"Connection: close\r\n", lambda event: event),
    "length": (b"Content-Length: %d\r\n" % sum(len(EVENT % i) for i in range(N)), lambda event: event),
}


def origin_of(framing, arrived):
    """Make a script that sends an event only when the client has told that it has the one before."""
    field, framed = FRAMINGS[framing]

    def script(connection, data):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + field + b"\r\n")
        for i in range(N):
            connection.sendall(framed(EVENT % i))
            assert arrived.acquire(timeout=10), f"event {i} did not arrive before the next"
        if framing == "chunked":
            connection.sendall(b"0\r\n\r\n")
        elif framing == "close":
            connection.shutdown(socket.SHUT_WR)

    return script


def read_events(client, arrived, version=b"1.1"):
    client.sendall(b"GET /events HTTP/%s\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n" % version)
    got = b""
    for i in range(N):
        while EVENT % i not in got:
            more = client.recv(65536)
            assert more, got
            got += more
        arrived.release()
    return got


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_event_arrives_before_the_next_is_sent(proxy_factory, origin_factory, kind, framing):
    arrived = threading.Semaphore(0)
    proxy = proxy_before(proxy_factory, origin_factory(origin_of(framing, arrived)).address, kind)
    with proxy.connect(10) as client:
        head = read_events(client, arrived).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200 ")
    if kind is Heads:
        assert b"x-seen: yes" in head


def test_a_client_of_http10_gets_events_up_to_the_end_of_the_connection(proxy_factory, origin_factory):
    arrived = threading.Semaphore(0)
    proxy = proxy_before(proxy_factory, origin_factory(origin_of("chunked", arrived)).address, BodyLater)
    with proxy.connect(10) as client:
        got = read_events(client, arrived, b"1.0")
        while more := client.recv(65536):
            got += more
    assert got.partition(b"\r\n\r\n")[2] == b"".join(EVENT % i for i in range(N))


def test_events_arrive_through_tls_as_they_are_sent(proxy_factory, origin_factory):
    arrived = threading.Semaphore(0)
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer([origin_factory(origin_of("chunked", arrived)).address])
    ca = Authority()
    issued = ca.issue("localhost")
    running = proxy_factory(proxy, tls=TlsSettings(Certificate(issued.chain, issued.key)))
    with running.connect(10) as plain, ca.trusts().wrap_socket(plain, server_hostname="localhost") as client:
        read_events(client, arrived)


def test_a_quiet_stream_outlives_the_limits_of_requests(proxy_factory, origin_factory):
    done = threading.Event()

    def script(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        assert done.wait(1.0) is False  # longer than each of the limits
        connection.sendall(b"3\r\ntwo\r\n0\r\n\r\n")

    limits = Limits(body_timeout=0.3, keep_alive=0.3, head_timeout=0.3, write_timeout=0.3)
    proxy = proxy_before(proxy_factory, origin_factory(script).address, ProxyHttp, limits)
    assert b"3\r\ntwo\r\n0\r\n\r\n" in proxy.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")


def test_a_client_that_leaves_a_stream_is_seen_by_the_origin(proxy_factory, origin_factory):
    ended = threading.Event()

    def script(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""
        ended.set()

    proxy = proxy_before(proxy_factory, origin_factory(script).address)
    with proxy.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while b"one" not in client.recv(65536):
            pass
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert ended.wait(10)
