"""Bodies that nobody reads: thrown away within a limit, so that their connection can be used again, else it ends."""

import contextlib
import threading

import pytest
from conversations import Forwarding, more_of, wait_until

from pingora import Limits, ProxyHttp, Response
from pingora.testing import read_all

DRAIN_MOST = 65536
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"


class Refuses(ProxyHttp):
    """Answers by itself, without the body."""

    def upstream_peer(self, session, ctx):
        raise AssertionError("never asked")

    def request_filter(self, session, ctx):
        return Response(403, {}, session.request.path)


def post(size, extra=b""):
    return b"POST /first HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n" % (extra, size)


def first_answer(client):
    answer = b""
    while not answer.endswith(b"/first"):
        more = client.recv(65536)
        assert more, answer
        answer += more
    return answer


@pytest.mark.parametrize("size", [1, 1000, DRAIN_MOST])
@pytest.mark.parametrize("step", [1 << 20, 777], ids=["at once", "in parts"])
def test_a_small_body_is_thrown_away_and_the_next_request_is_answered(proxy_factory, size, step):
    proxy = proxy_factory(Refuses())
    with proxy.connect() as client:
        client.sendall(post(size))
        assert b"connection: close" not in first_answer(client).lower()
        data = b"GET /no HTTP/1.1\r\n\r\n".ljust(size, b"x")[:size] + NEXT  # what looks like a request is a body
        for at in range(0, len(data), step):
            client.sendall(data[at : at + step])
        assert read_all(client).endswith(b"\r\n\r\n/next")
    assert proxy.serving.counters["pingora_requests_total"] == 2


def test_body_and_next_request_in_one_write(proxy_factory):
    proxy = proxy_factory(Refuses())
    answer = proxy.exchange(post(5) + b"hello" + NEXT)
    assert answer.count(b"HTTP/1.1 403") == 2
    assert answer.endswith(b"/next")


ENDING = {
    "a large body": post(DRAIN_MOST + 1),
    "a chunked body": b"POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a client that waits for 100 Continue": post(5, b"Expect: 100-continue\r\n"),
}


@pytest.mark.parametrize("head", ENDING.values(), ids=ENDING)
def test_where_the_next_request_begins_late_or_nobody_knows_where_the_connection_ends(proxy_factory, head):
    proxy = proxy_factory(Refuses())
    with proxy.connect() as client:
        client.sendall(head)
        assert b"connection: close" in first_answer(client).lower()
        client.sendall(NEXT)
        assert read_all(client) == b""
    assert proxy.serving.counters["pingora_requests_total"] == 1


def test_a_client_that_does_not_send_the_rest_is_closed_in_time(proxy_factory):
    proxy = proxy_factory(Refuses(), Limits(body_timeout=0.05))
    with proxy.connect() as client:
        client.sendall(post(10) + b"hell")
        first_answer(client)
        assert read_all(client) == b""
    wait_until(lambda: proxy.serving.counters["pingora_connections_open"] == 0)


def test_a_client_that_ends_within_the_rest_is_closed(proxy_factory):
    proxy = proxy_factory(Refuses())
    assert proxy.exchange(post(10) + b"hell").endswith(b"/first")
    wait_until(lambda: proxy.serving.counters["pingora_connections_open"] == 0)


def test_an_origin_that_answers_before_the_end_of_the_body(proxy_factory, origin_factory):
    def script(connection, data):
        if data.startswith(b"GET"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
            return
        connection.sendall(REFUSAL)
        while connection.recv(65536):
            pass

    origin = origin_factory(script)
    proxy = proxy_factory(Forwarding(origin.address))
    with proxy.connect() as client:
        client.sendall(post(1000))
        answer = b""
        while not answer.endswith(b"big"):
            answer += more_of(client)
        assert b"connection: close" not in answer.lower()
        client.sendall(bytes(1000) + NEXT)
        assert read_all(client).endswith(b"next")
    assert origin.n_connections == 2  # the one with half a request on it is not used again


# -- of an answer: the client gets none, whatever the origin sends


class Endless:
    """An origin whose answers do not end, but that to /next; `has_ended` tells that the proxy closed the connection."""

    def __init__(self, sends_on):
        self.sends_on = sends_on
        self.has_ended = threading.Event()

    def __call__(self, connection, data):
        if b"/next" in data:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        connection.settimeout(None)
        with contextlib.suppress(ConnectionError):
            while self.sends_on:
                connection.sendall(b"5\r\nhello\r\n")
            read_all(connection)
        self.has_ended.set()
        connection.close()


class NotModified(Forwarding):
    status = 304

    def response_filter(self, session, response, ctx):
        if session.request.path != "/next":
            response.status = self.status


class NoContent(NotModified):
    status = 204


class AsksWithGet(Forwarding):
    def upstream_request_filter(self, session, request, ctx):
        request.method = "GET"


WITHOUT_BODY = pytest.mark.parametrize(
    ("kind", "method"), [(NotModified, b"GET"), (NoContent, b"GET"), (AsksWithGet, b"HEAD")], ids=["304", "204", "HEAD"]
)


@pytest.fixture(params=[False, True], ids=["stops", "sends on"])
def endless(request):
    return Endless(request.param)


@pytest.fixture
def proxy(proxy_factory, origin_factory, kind, endless):
    return proxy_factory(kind(origin_factory(endless).address))


def ask_for_the_head(proxy, method):
    """Send a request and read the head of its answer, of which there must be no more; the connection."""
    client = proxy.connect(10)
    client.sendall(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += more_of(client)
    assert head.endswith(b"\r\n\r\n")
    return client


@WITHOUT_BODY
def test_the_next_request_does_not_wait_for_a_body_that_the_client_does_not_get(proxy, endless, method):
    with ask_for_the_head(proxy, method) as client:
        client.sendall(NEXT)
        assert read_all(client).endswith(b"\r\n\r\nnext")
        assert endless.has_ended.wait(10)
        wait_until(lambda: proxy.serving.activity()[1] == 0)


@WITHOUT_BODY
def test_a_client_that_leaves_with_its_head_leaves_nothing_behind(proxy, endless, method):
    ask_for_the_head(proxy, method).close()
    assert endless.has_ended.wait(10)
    wait_until(lambda: proxy.serving.activity()[1] == 0)
