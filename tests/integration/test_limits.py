"""What happens at each limit of a client connection, as docs/limits.md says."""

import asyncio
import contextlib
import select
import socket
import time

import pytest
from conversations import more_of

from pingora import Limits, LoadBalancer, ProxyHttp, Response
from pingora.testing import read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n5\r\nfive5\r\n0\r\n\r\n"
EXTENDED = CHUNKED.replace(b"4\r\n", b"4;ab\r\n").replace(b"5\r\nf", b"5;cd\r\nf")
POST_9 = POST + b"body of 9"
GET_5_BYTES = GET.replace(b"/ ", b"/abcd ")
GET_LARGE = GET[:-2] + b"A: %s\r\n\r\n" % (b"a" * 256)
GET_3_FIELDS = GET[:-2] + b"A: 1\r\nB: 2\r\n\r\n"
SOON = 0.02


class Proxy(ProxyHttp):
    def __init__(self, origin):
        self.upstreams = LoadBalancer([origin.address])


def answer(connection, data):
    """Answer once the request and its body are there, which is at most 3000 bytes or one chunk long."""
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
    while len(body) < length or (b"chunked" in head.lower() and not body.endswith(b"0\r\n\r\n")):
        more = connection.recv(65536)
        if not more:
            return
        body += more
    connection.sendall(HELLO)


class Waits(Proxy):
    async def request_filter(self, session, ctx):
        await asyncio.Event().wait()


FAILED = "pingora_failures_total"
REFUSED = "pingora_refusals_total"
CLOSED = "pingora_connections_closed_total"


@pytest.mark.parametrize(
    ("limits", "proxy_class", "sent", "answers", "counter"),
    [
        pytest.param({"head_timeout": SOON}, Proxy, GET[:-2], [408], (REFUSED, "head_timeout"), id="head_timeout"),
        pytest.param({"keep_alive": SOON}, Proxy, b"", [], (CLOSED, "keep_alive"), id="keep_alive of a new connection"),
        pytest.param({"keep_alive": SOON}, Proxy, GET, [200], (CLOSED, "keep_alive"), id="keep_alive after an answer"),
        pytest.param({"body_timeout": SOON}, Proxy, POST, [408], (FAILED, "client_timeout"), id="body_timeout"),
        pytest.param({"body_bytes": 8}, Proxy, POST, [413], (FAILED, "body_too_large"), id="body_bytes, by length"),
        pytest.param({"body_bytes": 8}, Proxy, CHUNKED, [413], (FAILED, "body_too_large"), id="body_bytes, chunked"),
        pytest.param({"body_bytes": 0}, Proxy, POST, [413], (FAILED, "body_too_large"), id="no body at all"),
        pytest.param(
            {"body_bytes": 9, "keep_alive": SOON}, Proxy, CHUNKED, [200], (CLOSED, "keep_alive"), id="at body_bytes"
        ),
        pytest.param(
            {"chunk_extension_bytes": 5},
            Proxy,
            EXTENDED,
            [400],
            (FAILED, "chunk_extensions_too_large"),
            id="chunk_extension_bytes",
        ),
        pytest.param(
            {"chunk_extension_bytes": 6, "keep_alive": SOON},
            Proxy,
            EXTENDED,
            [200],
            (CLOSED, "keep_alive"),
            id="at chunk_extension_bytes",
        ),
        pytest.param({"head_bytes": 256}, Proxy, GET_LARGE, [431], (REFUSED, "head_too_large"), id="head_bytes"),
        pytest.param({"target_bytes": 4}, Proxy, GET_5_BYTES, [414], (REFUSED, "target_too_long"), id="target_bytes"),
        pytest.param(
            {"target_bytes": 5, "keep_alive": SOON},
            Proxy,
            GET_5_BYTES,
            [200],
            (CLOSED, "keep_alive"),
            id="at target_bytes",
        ),
        pytest.param({"fields": 2}, Proxy, GET_3_FIELDS, [431], (REFUSED, "too_many_fields"), id="fields"),
        pytest.param(
            {"fields": 3, "keep_alive": SOON}, Proxy, GET_3_FIELDS, [200], (CLOSED, "keep_alive"), id="at fields"
        ),
        pytest.param(
            {"connection_requests": 2},
            Proxy,
            GET * 3,
            [200, 200],
            (CLOSED, "connection_requests"),
            id="connection_requests",
        ),
        pytest.param(
            {"hook_timeout": SOON, "keep_alive": SOON}, Waits, GET, [504], (FAILED, "hook_timeout"), id="hook_timeout"
        ),
    ],
)
def test_a_limit_gives_its_answer_and_is_counted(
    proxy_factory, origin_factory, limits, proxy_class, sent, answers, counter
):
    proxy = proxy_factory(proxy_class(origin_factory(answer)), Limits(**limits))
    with proxy.connect(30) as client:
        client.sendall(sent)
        got = read_all(client)
    assert [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:]] == answers
    family, reason = counter
    assert proxy.serving.counters[f'{family}{{reason="{reason}"}}'] == 1


def test_the_last_answer_of_a_connection_says_that_it_ends(proxy_factory, origin_factory):
    proxy = proxy_factory(Proxy(origin_factory(answer)), Limits(connection_requests=2))
    with proxy.connect(30) as client:
        client.sendall(GET * 3)
        first, second = read_all(client).split(b"HTTP/1.1 ")[1:]
    assert b"\r\nConnection: close\r\n" not in first
    assert b"\r\nConnection: close\r\n" in second


def drip(client, sent):
    """Send a byte at a time, more slowly than any limit here, until the proxy answers or `sent` ends."""
    for octet in sent:
        if select.select([client], [], [], SOON / 4)[0]:
            break
        client.send(bytes([octet]))
    return read_all(client)


@pytest.mark.parametrize("before", [b"", GET, GET + GET[:9]], ids=["first", "second", "second, begun with the first"])
def test_a_head_that_drips_is_cut_although_bytes_keep_coming(proxy_factory, origin_factory, before):
    proxy = proxy_factory(Proxy(origin_factory(answer)), Limits(head_timeout=SOON))
    with proxy.connect(30) as client:
        client.sendall(before)
        got = b""
        while before and not got.endswith(b"hello"):
            got += more_of(client)
        assert b"HTTP/1.1 408 " in drip(client, b"GET / HTTP/1.1\r\nHost: a\r\nA: %s\r\n\r\n" % (b"a" * 1000))


@pytest.mark.parametrize("head", [b"Content-Length: 9999", b"Transfer-Encoding: chunked"], ids=["length", "chunked"])
def test_a_body_that_drips_is_cut_although_bytes_keep_coming(proxy_factory, origin_factory, head):
    proxy = proxy_factory(Proxy(origin_factory(answer)), Limits(body_timeout=2 * SOON, body_rate=1000))
    with proxy.connect(30) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % head)
        assert drip(client, b"1\r\na\r\n" * 200).startswith(b"HTTP/1.1 408 ")
    assert proxy.serving.counters['pingora_failures_total{reason="client_too_slow"}'] == 1


def test_trailers_that_drip_behind_many_bytes_are_cut_as_a_body_is(proxy_factory, origin_factory):
    proxy = proxy_factory(Proxy(origin_factory(answer)), Limits(body_timeout=1.0, body_rate=1000))
    with proxy.connect(30) as client:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head + b"0\r\nA: " + b"a" * 3000)
        assert drip(client, b"a" * 1500).startswith(b"HTTP/1.1 408 ")
    assert proxy.serving.counters['pingora_failures_total{reason="client_too_slow"}'] == 1


def test_a_body_that_drips_is_taken_without_a_rate(proxy_factory, origin_factory):
    proxy = proxy_factory(Proxy(origin_factory(answer)), Limits(body_timeout=1.0, body_rate=0))
    with proxy.connect(30) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 300\r\n\r\n")
        assert drip(client, bytes(300)).startswith(b"HTTP/1.1 200 ")


def test_time_in_which_the_proxy_takes_nothing_does_not_count_as_slow(proxy_factory, origin_factory):
    class Filters(Proxy):
        async def request_body_filter(self, session, chunk, end, ctx):
            await asyncio.sleep(3 * SOON)  # longer than the stretch over which the rate is measured

    proxy = proxy_factory(Filters(origin_factory(answer)), Limits(body_timeout=SOON, body_rate=10_000))
    with proxy.connect(30) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2000\r\n\r\n")
        for _ in range(2):
            client.sendall(bytes(1000))
        assert read_all(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("of_server", "of_session", "sent", "status"),
    [(None, 8, POST, 413), (None, 8, CHUNKED, 413), (8, 9, POST_9, 200), (8, None, CHUNKED, 200), (8, 8, POST, 413)],
)
def test_a_hook_sets_the_limit_of_its_requests_body(proxy_factory, origin_factory, of_server, of_session, sent, status):
    seen = []

    class Sets(Proxy):
        def request_filter(self, session, ctx):
            seen.append(session.body_limit)
            session.body_limit = of_session

    proxy = proxy_factory(Sets(origin_factory(answer)), Limits(body_bytes=of_server, keep_alive=SOON))
    with proxy.connect(30) as client:
        client.sendall(sent)
        assert read_all(client).startswith(b"HTTP/1.1 %d " % status)
    assert seen == [of_server]


def test_a_body_limit_below_zero_is_refused(proxy_factory, origin_factory):
    class Sets(Proxy):
        def request_filter(self, session, ctx):
            with pytest.raises(ValueError, match="body_limit: expected a number of bytes or None, got -1"):
                session.body_limit = -1
            with pytest.raises(TypeError, match="body_limit: expected a number of bytes or None, got '10MB'"):
                session.body_limit = "10MB"

    assert proxy_factory(Sets(origin_factory(answer))).exchange(GET).startswith(b"HTTP/1.1 200 ")


def test_a_body_past_its_limit_does_not_reach_the_origin_by_its_length(proxy_factory, origin_factory):
    origin = origin_factory(answer)
    proxy = proxy_factory(Proxy(origin), Limits(body_bytes=8))
    assert proxy.exchange(POST).startswith(b"HTTP/1.1 413 ")
    assert origin.n_connections == 0


def test_a_client_that_takes_nothing_is_cut_after_write_timeout(proxy_factory, origin_factory):
    size = 64 << 20

    def large(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 16):
            connection.sendall(bytes(65536))

    proxy = proxy_factory(Proxy(origin_factory(large)), Limits(write_timeout=SOON))
    with proxy.connect(30) as client:
        client.sendall(GET)
        client.recv(1, socket.MSG_PEEK)
        while proxy.serving.activity()[1]:  # until the session has ended, although we have read nothing
            time.sleep(0.005)
        assert len(read_all(client)) < size
    assert proxy.serving.counters['pingora_failures_total{reason="client_stalled"}'] == 1


LARGE = 24 << 20


def sends_large(connection, data):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
    for _ in range(LARGE >> 16):
        connection.sendall(bytes(65536))


class AnswersLarge(Proxy):
    def request_filter(self, session, ctx):
        return Response(200, body=bytes(LARGE))


def read_slowly(client):
    """Read steadily, and much less than could be read; how many bytes came."""
    n = 0
    with contextlib.suppress(ConnectionError):
        while part := client.recv(65536):
            n += len(part)
            time.sleep(0.002)  # what is tested is how fast it reads
    return n


@pytest.mark.parametrize(
    ("proxy_class", "counter"),
    [
        (Proxy, (FAILED, "client_reads_slowly")),
        (AnswersLarge, (CLOSED, "client_reads_slowly")),  # its request has ended long before
    ],
    ids=["of an origin", "of a hook"],
)
def test_a_client_that_takes_little_is_cut_at_write_rate(proxy_factory, origin_factory, proxy_class, counter):
    limits = Limits(write_timeout=0.25, write_rate=10**9)
    proxy = proxy_factory(proxy_class(origin_factory(sends_large)), limits)
    with proxy.connect(30) as client:
        client.sendall(GET)
        assert read_slowly(client) < LARGE
    family, reason = counter
    assert proxy.serving.counters[f'{family}{{reason="{reason}"}}'] == 1


@pytest.mark.parametrize("rate", [0, 10_000])
def test_a_client_that_takes_enough_is_not_cut(proxy_factory, origin_factory, rate):
    limits = Limits(write_timeout=0.25, write_rate=rate)
    proxy = proxy_factory(Proxy(origin_factory(sends_large)), limits)
    with proxy.connect(30) as client:
        client.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert read_slowly(client) > LARGE
    assert proxy.serving.counters['pingora_failures_total{reason="client_reads_slowly"}'] == 0


def test_time_in_which_nothing_waits_for_the_client_does_not_count_as_slow(proxy_factory, origin_factory):
    def twice(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * LARGE))
        connection.sendall(bytes(LARGE))
        time.sleep(0.8)  # what is tested is that nothing happens meanwhile
        connection.sendall(bytes(LARGE))

    proxy = proxy_factory(Proxy(origin_factory(twice)), Limits(write_timeout=1.0, write_rate=10**9))
    with proxy.connect(30) as client:
        client.sendall(GET)
        n = 0
        while n < LARGE:
            n += len(client.recv(1 << 20))
        time.sleep(1.1)  # the stretch that began with the first part ends while the second waits
        while n < 2 * LARGE:
            part = client.recv(1 << 20)
            assert part, proxy.serving.counters
            n += len(part)
