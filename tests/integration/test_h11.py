"""Conversations with h11, a strict HTTP/1.1 implementation that is not ours, as client and as origin."""

import contextlib
import socket
from dataclasses import dataclass, field

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pingora import LoadBalancer, ProxyHttp

HOST = ("Host", "a")
# The proxy and the origin of a test serve all its examples, so each starts where the one before left them.
property_of = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
parts = st.lists(st.binary(min_size=1, max_size=40) | st.binary(min_size=3, max_size=3).map(lambda b: b * 20_000))
cuts = st.lists(st.integers(1, 400), max_size=8)


@dataclass
class Message:
    """What one side said in an exchange."""

    head: h11.Request | h11.Response | None = None
    interim: list[h11.InformationalResponse] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: list = field(default_factory=list)

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.head.headers}


def read_message(parser, sock):
    """Read one message; its head is None where the other side closed instead."""
    message = Message()
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            if parser.they_are_waiting_for_100_continue:
                sock.sendall(parser.send(h11.InformationalResponse(status_code=100, headers=[])))
            parser.receive_data(sock.recv(65536))
        elif isinstance(event, h11.InformationalResponse):
            message.interim.append(event)
        elif isinstance(event, h11.Request | h11.Response):
            message.head = event
        elif isinstance(event, h11.Data):
            message.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            message.trailers = list(event.headers)
            return message
        else:
            assert isinstance(event, h11.ConnectionClosed)
            return message


def converse(connection, received, answer):
    """Be the h11 server of a connection, whose first bytes came already, until either side closes."""
    with connection:
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(received)
        while (request := read_message(parser, connection)).head is not None:
            for event in answer(request):
                connection.sendall(parser.send(event))
            if parser.our_state is not h11.DONE:
                return
            parser.start_next_cycle()


def echo(request):
    """Say the method, target and framing, and give the body back, framed by length or chunked as it came."""
    is_chunked = "transfer-encoding" in request.headers
    said = [("X-Method", request.head.method), ("X-Target", request.head.target)]
    framing = ("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", str(len(request.body)))
    yield h11.Response(status_code=200, headers=[*said, framing])
    if request.head.method != b"HEAD":
        for at in range(0, len(request.body), 7000):
            yield h11.Data(data=bytes(request.body[at : at + 7000]))
    yield h11.EndOfMessage()


@pytest.fixture
def proxy_to(proxy_factory, origin_factory):
    """Start a proxy before an h11 origin that sends the events that `answer` makes of each request."""
    broken = []

    def start(answer):
        def script(connection, received):
            try:
                converse(connection, received, answer)
            except h11.ProtocolError as error:
                broken.append(error)

        proxy = ProxyHttp()
        proxy.upstreams = LoadBalancer([origin_factory(script).address])
        return proxy_factory(proxy)

    yield start
    assert broken == [], "h11 as origin refused what the proxy sent"


class Client:
    """A client connection with its h11 parser."""

    def __init__(self, proxy):
        self.sock = proxy.connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.parser = h11.Connection(h11.CLIENT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, *events, cuts=()):
        """Send events; `cuts` are the sizes of the first pieces that the bytes are sent in."""
        data = b"".join(self.parser.send(event) for event in events)
        for size in cuts:
            self.sock.sendall(data[:size])
            data = data[size:]
        self.sock.sendall(data)

    def receive(self):
        return read_message(self.parser, self.sock)

    def ask(self, *events, cuts=()):
        self.send(*events, cuts=cuts)
        return self.receive()


def request(method="GET", target="/", *headers):
    return h11.Request(method=method, target=target, headers=[HOST, *headers])


def upload(body, is_chunked):
    """The events of a POST; `body` is a list of parts."""
    framing = ("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", str(sum(map(len, body))))
    return [request("POST", "/", framing), *(h11.Data(data=part) for part in body), h11.EndOfMessage()]


GET = [request(), h11.EndOfMessage()]


def test_twenty_pipelined_requests_of_all_framings_are_answered_in_order(proxy_to):
    asked = [
        (("GET", "HEAD", "POST", "PUT")[i % 4], f"/{i}", b"%d " % i * 300 * i if i % 4 > 1 else b"", i % 3 == 0)
        for i in range(20)
    ]
    parsers = [h11.Connection(h11.CLIENT) for _ in asked]  # h11 itself waits for each answer
    sent = b""
    for parser, (method, target, body, is_chunked) in zip(parsers, asked, strict=True):
        framing = ("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", str(len(body)))
        for event in (request(method, target, framing), h11.Data(data=body), h11.EndOfMessage()):
            sent += parser.send(event)
    with Client(proxy_to(echo)) as client:
        client.sock.sendall(sent)
        rest = b""
        for parser, (method, target, body, is_chunked) in zip(parsers, asked, strict=True):
            if rest:  # for h11, no bytes would be the end
                parser.receive_data(rest)
            answer = read_message(parser, client.sock)
            rest = parser.trailing_data[0]
            assert (answer.headers["x-method"], answer.headers["x-target"]) == (method, target)
            assert bytes(answer.body) == body
            assert method == "HEAD" or ("transfer-encoding" in answer.headers) == is_chunked
        assert rest == b""


@pytest.mark.parametrize("is_chunked", [False, True], ids=["by length", "chunked"])
def test_any_body_in_any_pieces_comes_back_the_same(proxy_to, is_chunked):
    proxy = proxy_to(echo)

    @property_of
    @given(bodies=st.lists(parts, min_size=1, max_size=3), cuts=cuts)
    def check(bodies, cuts):
        with Client(proxy) as client:
            for body in bodies:
                answer = client.ask(*upload(body, is_chunked), cuts=cuts)
                assert answer.head.status_code == 200
                assert bytes(answer.body) == b"".join(body)
                client.parser.start_next_cycle()

    check()


@pytest.mark.parametrize("is_chunked", [False, True], ids=["by length", "chunked"])
def test_any_answer_in_any_pieces_arrives_the_same(proxy_to, is_chunked):
    wanted = []

    def answer(_request):
        body = list(wanted)  # the client may have it all, and want something else, before this has ended
        framing = ("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", str(sum(map(len, body))))
        yield h11.Response(status_code=200, headers=[framing])
        yield from (h11.Data(data=part) for part in body)
        yield h11.EndOfMessage()

    proxy = proxy_to(answer)
    with Client(proxy) as client:

        @property_of
        @given(parts=parts)
        def check(parts):
            wanted[:] = parts
            assert bytes(client.ask(*GET).body) == b"".join(parts)
            client.parser.start_next_cycle()

        check()


def test_100_continue_comes_from_the_origin_before_the_body_is_sent(proxy_to):
    with Client(proxy_to(echo)) as client:
        for _ in range(3):
            client.send(request("POST", "/", ("Expect", "100-continue"), ("Content-Length", "5")))
            assert client.parser.they_are_waiting_for_100_continue is False
            interim = next_event(client)
            assert (type(interim), interim.status_code) == (h11.InformationalResponse, 100)
            answer = client.ask(h11.Data(data=b"hello"), h11.EndOfMessage())
            assert (answer.interim, bytes(answer.body)) == ([], b"hello")
            client.parser.start_next_cycle()


def next_event(client):
    while (event := client.parser.next_event()) is h11.NEED_DATA:
        client.parser.receive_data(client.sock.recv(65536))
    return event


def test_other_interim_answers_pass_too(proxy_to):
    def answer(_request):
        yield h11.InformationalResponse(status_code=103, headers=[("Link", "</a.css>; rel=preload")])
        yield h11.InformationalResponse(status_code=103, headers=[("Link", "</b.css>; rel=preload")])
        yield from echo(_request)

    with Client(proxy_to(answer)) as client:
        got = client.ask(*GET)
    assert [(one.status_code, dict(one.headers)[b"link"]) for one in got.interim] == [
        (103, b"</a.css>; rel=preload"),
        (103, b"</b.css>; rel=preload"),
    ]
    assert got.head.status_code == 200


def test_a_refused_expectation_arrives_and_nothing_is_read_as_a_request_after_it(proxy_factory, origin_factory):
    def script(connection, _received):
        connection.sendall(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")

    origin = origin_factory(script)
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer([origin.address])
    with Client(proxy_factory(proxy)) as client:
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        length = ("Content-Length", str(len(smuggled)))
        client.send(request("POST", "/", ("Expect", "100-continue"), length))
        assert next_event(client).status_code == 417
        with contextlib.suppress(OSError):
            client.sock.sendall(smuggled)
        assert isinstance(next_event(client), h11.EndOfMessage)
        assert client.sock.recv(1000) == b""
    assert len(origin.heads) == 1


def test_an_answer_that_comes_before_the_upload_ended_arrives(proxy_factory, origin_factory):
    def script(connection, _received):
        connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):  # or the kernel would take the answer back with a reset
            pass
        connection.close()

    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer([origin_factory(script).address])
    with Client(proxy_factory(proxy)) as client:
        client.send(request("POST", "/", ("Content-Length", "50000000")))
        with contextlib.suppress(OSError):
            for _ in range(50):
                client.send(h11.Data(data=bytes(100_000)))
        answer = client.receive()
    assert (answer.head.status_code, bytes(answer.body)) == (413, b"big")


def test_trailers_may_be_dropped_and_harm_neither_body_nor_connection(proxy_to):
    seen = []

    def answer(request):
        seen.append(request)
        yield h11.Response(status_code=200, headers=[("Transfer-Encoding", "chunked")])
        yield h11.Data(data=b"body")
        yield h11.EndOfMessage(headers=[("X-Sum", "1")])

    head = request("POST", "/", ("Transfer-Encoding", "chunked"))
    with Client(proxy_to(answer)) as client:
        got = client.ask(head, h11.Data(data=b"up"), h11.EndOfMessage(headers=[("X-Sum", "2")]))
        client.parser.start_next_cycle()
        assert bytes(client.ask(*GET).body) == b"body"
    assert (bytes(got.body), bytes(seen[0].body)) == (b"body", b"up")
    assert got.trailers in ([], [(b"x-sum", b"1")])
    assert seen[0].trailers in ([], [(b"x-sum", b"2")])


def test_a_client_that_asks_to_close_is_told_so_and_closed(proxy_to):
    with Client(proxy_to(echo)) as client:
        answer = client.ask(request("GET", "/", ("Connection", "close")), h11.EndOfMessage())
        assert answer.headers["connection"] == "close"
        assert isinstance(next_event(client), h11.ConnectionClosed)


def test_an_origin_that_closes_does_not_close_the_client(proxy_to):
    def answer(_request):
        yield h11.Response(status_code=200, headers=[("Connection", "close"), ("Content-Length", "2")])
        yield h11.Data(data=b"hi")
        yield h11.EndOfMessage()

    with Client(proxy_to(answer)) as client:
        for _ in range(5):
            got = client.ask(*GET)
            assert (bytes(got.body), got.headers.get("connection")) == (b"hi", None)
            client.parser.start_next_cycle()


POST_1_0 = b"POST /a HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


def raw_exchange(client, data):
    """Send bytes that h11 would not write, and let it read the answer to them."""
    client.parser = h11.Connection(h11.CLIENT)
    for event in GET:
        client.parser.send(event)
    client.sock.sendall(data)
    return client.receive()


def chunked_hello(_request):
    yield h11.Response(status_code=200, headers=[("Transfer-Encoding", "chunked")])
    yield h11.Data(data=b"hello")
    yield h11.EndOfMessage()


def test_an_http_1_0_request_without_host_gets_one(proxy_to):
    hosts = []

    def answer(request):
        hosts.append(request.headers["host"])
        yield from echo(request)

    with Client(proxy_to(answer)) as client:
        assert raw_exchange(client, b"GET / HTTP/1.0\r\n\r\n").head.status_code == 200
    assert len(hosts) == 1


def test_an_http_1_0_client_gets_a_chunked_answer_to_the_end_of_the_connection(proxy_to):
    with Client(proxy_to(chunked_hello)) as client:
        got = raw_exchange(client, b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        assert bytes(got.body) == b"hello"
        assert "transfer-encoding" not in got.headers
        assert got.headers["connection"] == "close"


def test_an_http_1_0_client_is_kept_only_where_it_asks(proxy_to):
    with Client(proxy_to(echo)) as client:
        for _ in range(3):
            got = raw_exchange(client, POST_1_0.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
            assert (bytes(got.body), got.headers["connection"]) == (b"hi", "keep-alive")
        got = raw_exchange(client, POST_1_0)
        assert bytes(got.body) == b"hi"
        assert isinstance(next_event(client), h11.ConnectionClosed)


def test_an_http_1_0_client_gets_no_interim_answer(proxy_to):
    def answer(request):
        yield h11.InformationalResponse(status_code=103, headers=[("Link", "</a.css>")])
        yield from echo(request)

    with Client(proxy_to(answer)) as client:
        got = raw_exchange(client, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    assert (got.interim, got.head.status_code) == ([], 200)
