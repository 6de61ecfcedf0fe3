"""Exchanges that end before their time: an answer before the request's body, a client or an origin that leaves."""

import contextlib
import itertools
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import h11
import pytest
from conversations import Forwarding, dechunk, more_of, wait_until
from inside import RESET, settle
from strict_origin import StrictOrigin

from pingora import Limits, Response
from pingora.testing import read_all

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"
CLOSED_LINGERING = 'pingora_connections_closed_total{reason="lingering"}'
PART = bytes(65536)
SENT = 400_000  # more than the kernel keeps where nobody reads, less than the whole body


def end(connection, is_reset):
    if is_reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    else:
        connection.shutdown(socket.SHUT_WR)
    connection.close()


# -- an answer before the request's body ends


def keeps_reading(connection, _data):
    connection.sendall(TOO_LARGE)
    while connection.recv(65536):
        pass


def closes(connection, _data):
    connection.sendall(TOO_LARGE)
    connection.close()  # bytes that it has not read make this a reset


def ends_its_side(connection, _data):
    connection.sendall(TOO_LARGE)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


class Refuses(Forwarding):
    def request_filter(self, session, ctx):
        return Response(413, body="big")


class RefusesLater(Forwarding):
    def request_body_filter(self, session, chunk, end, ctx):
        return Response(413, body="big")


def upload_and_read(proxy):
    """Send on whatever comes, as a client does that reads only when it has sent, or cannot send any more."""
    with proxy.connect(10) as client:
        client.sendall(POST)
        with contextlib.suppress(ConnectionError):
            for _ in range(SENT // 10_000):
                client.sendall(bytes(10_000))
        return read_all(client)


@pytest.mark.parametrize("script", [keeps_reading, closes, ends_its_side, Refuses, RefusesLater])
def test_an_answer_before_the_body_ends_arrives_1000_times_of_1000(proxy_factory, origin_factory, script):
    is_hook = isinstance(script, type)
    origin = origin_factory(keeps_reading if is_hook else script)
    proxy = proxy_factory((script if is_hook else Forwarding)(origin.address))
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda _: upload_and_read(proxy), range(1000)))
    whole = [a for a in answers if a.startswith(b"HTTP/1.1 413 ") and a.endswith(b"\r\n\r\nbig")]
    assert len(whole) == 1000
    assert all(b"\r\nConnection: close\r\n" in answer for answer in whole)
    wait_until(lambda: proxy.serving.activity()[1] == 0)


class Streams(Forwarding):
    def request_filter(self, session, ctx):
        return Response(200, body=self.parts())

    async def parts(self):
        for _ in range(200):
            yield PART


class StreamsThePage(Streams):
    request_filter = Forwarding.request_filter

    def fail_to_proxy(self, session, error, ctx):
        return Response(200, body=self.parts())


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("kind", [Streams, StreamsThePage])
def test_a_large_streamed_answer_arrives_at_a_client_that_sends_all_before_it_reads(proxy_factory, kind, is_chunked):
    proxy = proxy_factory(kind("127.0.0.1:1"))
    with proxy.connect(10) as client:
        client.sendall(CHUNKED_POST if is_chunked else POST.replace(b"10000000", b"%d" % (300 * len(PART))))
        for _ in range(300):
            client.sendall(b"%x\r\n%b\r\n" % (len(PART), PART) if is_chunked else PART)
        if is_chunked:
            client.sendall(b"0\r\n\r\n")
        assert dechunk(read_all(client))[0] == 200 * PART
    wait_until(lambda: proxy.serving.activity()[1] == 0)


def test_a_refused_head_is_answered_although_the_client_sends_on(proxy_factory):
    proxy = proxy_factory(Forwarding("127.0.0.1:1"))
    for _ in range(200):
        with proxy.connect() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                client.sendall(bytes(SENT))
            assert read_all(client).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_sends_for_longer_than_an_answer_lingers_reads_it(proxy_factory):
    """Each byte shows that it is still at it."""
    proxy = proxy_factory(Refuses("127.0.0.1:1"))
    with proxy.connect() as client:
        client.sendall(POST)
        for _ in range(7):
            time.sleep(0.4)  # a little longer in all than a quiet connection lingers
            client.sendall(b"x" * 1000)
        assert read_all(client).endswith(b"\r\n\r\nbig")
    wait_until(lambda: proxy.serving.counters["pingora_connections_open"] == 0)
    assert proxy.serving.counters[CLOSED_LINGERING] == 0


def test_a_client_that_sends_on_for_ever_behind_its_answer_is_closed_and_counted(proxy_factory):
    proxy = proxy_factory(Refuses("127.0.0.1:1"), Limits(body_timeout=0.3))
    with proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                client.sendall(bytes(1000))
    wait_until(lambda: proxy.serving.counters[CLOSED_LINGERING] == 1)


def test_bytes_behind_an_early_answer_are_never_a_request(proxy_factory, origin_factory):
    origin = origin_factory(keeps_reading)
    proxy = proxy_factory(Forwarding(origin.address))
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    with proxy.connect() as client:
        client.sendall(POST)
        head = client.recv(65536)
        client.sendall(smuggled * 10)
        client.shutdown(socket.SHUT_WR)
        assert (head + read_all(client)).count(b"HTTP/1.1 ") == 1
    assert len(origin.heads) == 1


# -- a client that ends within its body


def gives_what_it_got(got):
    def script(connection, data):
        with contextlib.suppress(ConnectionResetError):
            while more := connection.recv(65536):
                data += more
        got.append(data.partition(b"\r\n\r\n")[2])

    return script


@pytest.mark.parametrize("head", [POST, CHUNKED_POST], ids=["length", "chunked"])
def test_a_client_that_ends_its_side_within_the_body_is_answered_400(proxy_factory, origin_factory, head):
    got = []
    proxy = proxy_factory(Forwarding(origin_factory(gives_what_it_got(got)).address))
    answer = proxy.exchange(head + b"5\r\nhello\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"client_truncated" in answer
    wait_until(lambda: got)
    assert got[0] in (b"", b"5\r\nhello\r\n", b"5\r\nhello"), "it must not look as if it were whole"


def test_an_answer_that_has_begun_goes_on_although_the_client_ends_within_the_body(proxy_factory, origin_factory):
    ended = threading.Event()

    def script(connection, _data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        while connection.recv(65536):
            pass
        ended.set()
        connection.sendall(b"world")

    proxy = proxy_factory(Forwarding(origin_factory(script).address))
    with proxy.connect() as client:
        client.sendall(POST)
        answer = b""
        while not answer.endswith(b"hello"):
            answer += more_of(client)
        client.shutdown(socket.SHUT_WR)
        assert ended.wait(10), "the origin does not see that the body has ended"
        assert read_all(client) == b"world"
    wait_until(lambda: proxy.serving.activity()[1] == 0)


@pytest.mark.parametrize("when", ["in the head", "in the body", "before the answer", "in the answer"])
@pytest.mark.parametrize("is_reset", [False, True], ids=["FIN", "RST"])
def test_a_client_that_leaves_takes_its_exchange_with_it(proxy_factory, origin_factory, when, is_reset):
    at_origin, left = threading.Event(), threading.Event()
    ended = []

    def script(connection, _data):
        if when == "in the answer":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        at_origin.set()
        assert left.wait(10)
        try:
            if when == "in the answer":
                for _ in range(1000):
                    connection.sendall(bytes(100_000))
            else:
                while connection.recv(65536):
                    pass
        finally:
            ended.append(True)

    proxy = proxy_factory(Forwarding(origin_factory(script).address))
    client = proxy.connect()
    whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    client.sendall({"in the head": whole[:-2], "in the body": POST + b"x"}.get(when, whole))
    if when != "in the head":
        assert at_origin.wait(10)
    if when == "before the answer" and not is_reset:
        client.close()  # a half-close as far as anybody can see: the origin is still waited for
        left.set()
        wait_until(lambda: proxy.serving.activity()[1] == 1)
        return
    end(client, is_reset)
    left.set()
    wait_until(lambda: proxy.serving.activity()[1] == 0)
    wait_until(lambda: ended or when == "in the head")


@pytest.mark.parametrize("is_reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_a_client_may_end_behind_every_byte_of_its_request(proxy_factory, is_chunked, is_reset):
    """What is whole reaches the origin and is answered, what is not never looks whole to it."""
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: 5"
    request = b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n"
    head_size = len(request)
    request += b"5\r\nhello\r\n0\r\n\r\n" if is_chunked else b"hello"
    origin = StrictOrigin()
    proxy = proxy_factory(Forwarding(origin.address))
    for cut in range(len(request) + 1):
        with proxy.connect(10) as client:
            client.sendall(request[:cut])
            if is_reset:
                settle(proxy)
                end(client, True)
                continue
            client.shutdown(socket.SHUT_WR)
            answer = read_all(client)
        if cut < head_size:
            assert answer == b""
        elif cut < len(request):
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"client_truncated" in answer
        else:
            assert answer.startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: proxy.serving.activity()[1] == 0)
    origin.close()
    bodies = [request.body for request in origin.requests]
    assert bodies == [b"hello"] or (is_reset and bodies == [])  # the reset may come before the origin is connected
    assert origin.faults == []


# -- an origin that ends at any point


def at_once(_connection):
    pass


def within_the_head(connection):
    connection.recv(10)


def behind_the_head(connection):
    read_until(connection, b"\r\n\r\n")


def within_the_body(connection):
    read_until(connection, b"\r\n\r\n")
    connection.recv(1000)


def behind_the_request(connection):
    read_until(connection, b"end of body")


def read_until(connection, mark):
    data = b""
    while mark not in data:
        data += more_of(connection)


@pytest.mark.parametrize("is_reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("when", [at_once, within_the_head, behind_the_head, within_the_body, behind_the_request])
def test_an_origin_that_ends_before_its_answer_is_502_wherever_the_request_is(proxy_factory, when, is_reset):
    body = bytes(300_000) + b"end of body"
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    n_asked = 0

    def serve(listener):
        nonlocal n_asked
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                n_asked += 1
                when(connection)
                end(connection, is_reset)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        proxy = proxy_factory(Forwarding(f"127.0.0.1:{listener.getsockname()[1]}"))
        for _ in range(20):
            with proxy.connect(10) as client:
                with contextlib.suppress(ConnectionError):
                    client.sendall(request + body)
                answer = read_until_answered(client)
            assert answer.startswith(b"HTTP/1.1 502 "), answer
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    if when is not at_once:  # else it may be that nothing was sent yet
        assert n_asked == 20, "a POST is not sent again"
    wait_until(lambda: proxy.serving.activity()[1] == 0)


def read_until_answered(client):
    answer = b""
    while not answer.endswith(b"\n") or b"\r\n\r\n" not in answer:
        answer += more_of(client)
    return answer


BODY = b"hello, world"
HEAD = b"HTTP/1.1 200 OK\r\nX-A: b\r\n"
ANSWERS = {
    "length": HEAD + b"Content-Length: 12\r\n\r\n" + BODY,
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n",
    "trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\nc\r\n" + BODY + b"\r\n0\r\nX-T: 1\r\n\r\n",
    "close": HEAD + b"\r\n" + BODY,
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD + b"Content-Length: 12\r\n\r\n" + BODY,
    "empty": HEAD + b"Content-Length: 0\r\n\r\n",
}


def read_as_client(data, is_reset):
    """What a strict client makes of an answer: (status, body), or (status, None) if it can see that it is cut."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(data)
    status, body = None, b""
    try:
        if not is_reset:
            parser.receive_data(b"")
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return status, None
    except h11.RemoteProtocolError:
        return status, None


def ask(proxy, request):
    """Read to the end of the connection; also whether that was a reset."""
    data = bytearray()
    with proxy.connect(10) as client:
        client.sendall(request)
        try:
            while more := client.recv(65536):
                data += more
        except ConnectionResetError:
            return bytes(data), True
    return bytes(data), False


@pytest.mark.parametrize("is_1_0", [False, True], ids=["1.1", "1.0"])
@pytest.mark.parametrize("is_reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_an_origin_may_end_behind_every_byte_of_its_answer(proxy_factory, origin_factory, kind, is_reset, is_1_0):
    """What is whole arrives, what is not is 502 or a cut that the client can see."""
    answer = ANSWERS[kind]
    cuts = itertools.count()

    def script(connection, _data):
        connection.sendall(answer[: next(cuts)])
        end(connection, is_reset)

    proxy = proxy_factory(Forwarding(origin_factory(script).address))
    request = b"GET / HTTP/1.%d\r\nHost: a\r\nConnection: close\r\n\r\n" % (not is_1_0)
    head_size = answer.rindex(HEAD) + len(answer[answer.rindex(HEAD) :].partition(b"\r\n\r\n")[0]) + 4
    is_to_end = kind == "close"
    for cut in range(len(answer) + 1):
        got = read_as_client(*ask(proxy, request))
        if cut < head_size:
            assert got[0] == 502, (cut, got)
            assert got[1] is not None
        elif is_to_end and not is_reset:
            assert got == (200, answer[head_size:cut]), cut
        elif cut == len(answer) and not is_to_end:
            assert got == (200, b"" if kind == "empty" else BODY), cut
        else:
            assert got == (200, None), cut
    assert next(cuts) == len(answer) + 1, "each request was sent once"
    wait_until(lambda: proxy.serving.activity()[1] == 0)


# -- what is told of an origin that ends too early

LENGTH_10 = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CODED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("has_hook", [False, True], ids=["no hook", "hook"])
@pytest.mark.parametrize(
    ("sent", "is_reset", "told"),
    [
        (b"", False, "upstream_closed (ended before its answer), status 502, client "),
        (b"", True, "upstream_closed (reset before its answer), status 502, client "),
        (
            LENGTH_10[:27],
            False,
            "upstream_closed (ended in the head of its answer, 27 bytes came of it), status 502, client ",
        ),
        (
            b"HTTP/1.1 103 Early\r\n\r\n" + LENGTH_10[:9],
            False,
            "upstream_closed (ended in the head of its answer, 9 bytes came of it), status 502, client ",
        ),
        (
            LENGTH_10 + b"five5",
            False,
            "upstream_truncated (ended in the body, 5 bytes came of 10), status 200, cut after 5 bytes, client ",
        ),
        (
            CODED + b"5\r\nfive5\r\n",
            False,
            "upstream_truncated (ended before the last chunk), status 200, cut after 5 bytes, client ",
        ),
        (
            CODED + b"5\r\nfive5\r\n0\r\nX: y",
            False,
            "upstream_truncated (ended before the end of the answer), status 200, cut after 5 bytes, client ",
        ),
        (
            CODED + b"5\r\nfive5\r\nx\r\n",
            False,
            "upstream_bad_body (bad_chunk_size), status 200, cut after 5 bytes, client ",
        ),
    ],
)
def test_the_error_log_and_hooks_tell_how_far_an_answer_came(
    proxy_factory, origin_factory, caplog, has_hook, sent, is_reset, told
):
    details = []

    class Logs(Forwarding):
        def logging(self, session, error, ctx):
            details.append(error.detail)

    def script(connection, _data):
        connection.sendall(sent)
        end(connection, is_reset)

    proxy = proxy_factory((Logs if has_hook else Forwarding)(origin_factory(script).address))
    proxy.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_until(lambda: proxy.serving.activity()[1] == 0)
    assert f"GET /, Host: a: {told}127.0.0.1:" in caplog.text
    if has_hook:
        assert f"({details[0]})" in told


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"5\r\nhello\r\nx\r\n", "bad_chunk_size"),
        (b"5\nhello", "bad_chunk_line_end"),
        (b"0\r\nA : b\r\n\r\n", "bad_trailers"),
    ],
)
def test_the_error_log_tells_what_is_wrong_with_the_body_of_a_request(
    proxy_factory, origin_factory, caplog, body, told
):
    proxy = proxy_factory(Forwarding(origin_factory(gives_what_it_got([])).address))
    assert proxy.exchange(CHUNKED_POST + body).startswith(b"HTTP/1.1 400 ")
    wait_until(lambda: f"POST /, Host: a: client_bad_body ({told}), status 400, client 127.0.0.1:" in caplog.text)
