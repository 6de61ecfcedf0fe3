"""What happens at each limit of a peer, as docs/limits.md says."""

import contextlib
import select
import socket
import threading
import time

import pytest
from conversations import GET, Forwarding, wait_until

from pingora import HttpPeer, RetryPolicy
from pingora.testing import read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
KEEP = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SOON = 0.05
LATER = 4 * SOON
OTHERS = {"connect_timeout": 30.0, "read_timeout": 30.0, "first_byte_timeout": 30.0, "write_timeout": 30.0}
OTHERS |= {"head_timeout": 30.0}


class Hurried(Forwarding):
    retry = RetryPolicy(attempts=1)

    def __init__(self, address, **times):
        self.peer = HttpPeer(address, **(OTHERS | times))


@pytest.fixture
def held():
    """An event that scripts of origins wait for, so that they do not end before the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def black_hole():
    """The address of a listener whose queue is full: a connect gets no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def drip(*parts):
    """Make an origin that sends the parts, the last again and again, a moment apart."""

    def script(connection, data):
        for part in parts[:-1]:
            connection.sendall(part)
        while True:
            time.sleep(SOON / 5)
            connection.sendall(parts[-1])

    return script


def send_until_answered(client, head):
    """Send a body without an end until the proxy answers."""
    client.sendall(head)
    client.setblocking(False)
    with contextlib.suppress(ConnectionError):
        while not select.select([client], [], [], 0)[0]:
            if select.select([], [client], [], 0.01)[1]:
                client.send(bytes(1 << 20))
    client.settimeout(30)
    return read_all(client)


def assert_failed(proxy, reason):
    for family in ("failures", "upstream_failures"):
        assert proxy.serving.counters[f'pingora_{family}_total{{reason="{reason}"}}'] == 1


def test_a_connect_without_an_answer_ends_at_connect_timeout(proxy_factory, black_hole):
    proxy = proxy_factory(Hurried(black_hole, connect_timeout=SOON))
    assert proxy.exchange(GET, 30).startswith(b"HTTP/1.1 504 ")
    assert_failed(proxy, "connect_timeout")


def test_an_origin_that_says_nothing_is_given_up_at_first_byte_timeout(proxy_factory, origin_factory, held):
    origin = origin_factory(lambda connection, data: held.wait(30))
    proxy = proxy_factory(Hurried(origin.address, first_byte_timeout=SOON))
    assert proxy.exchange(GET, 30).startswith(b"HTTP/1.1 504 ")
    assert_failed(proxy, "first_byte_timeout")


@pytest.mark.parametrize(
    "begun", [b"HTTP/1.1 200 OK\r\nContent-Length: 9", HELLO[:-1]], ids=["in the head", "in the body"]
)
def test_an_origin_that_stops_is_given_up_at_read_timeout(proxy_factory, origin_factory, held, begun):
    def script(connection, data):
        connection.sendall(begun)
        held.wait(30)

    proxy = proxy_factory(Hurried(origin_factory(script).address, read_timeout=SOON))
    answer = proxy.exchange(GET, 30)
    assert answer.startswith(b"HTTP/1.1 504 ") or answer.endswith(b"hell")
    assert_failed(proxy, "upstream_timeout")


def test_an_origin_that_takes_nothing_is_given_up_at_write_timeout(proxy_factory, origin_factory, held):
    origin = origin_factory(lambda connection, data: held.wait(30))
    proxy = proxy_factory(Hurried(origin.address, write_timeout=SOON))
    with proxy.connect(30) as client:
        answer = send_until_answered(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert_failed(proxy, "upstream_write_timeout")


@pytest.mark.parametrize(
    ("script", "is_cut"),
    [
        (drip(b"HTTP/1.1 103 Early\r\n\r\n", b""), False),
        (drip(b"HTTP/1.1 200 OK\r\nX: ", b"x"), False),
        (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x"), True),
        (drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), True),
    ],
    ids=["interim answers", "head", "body", "chunks"],
)
def test_an_exchange_that_never_ends_is_given_up_at_total_timeout(proxy_factory, origin_factory, script, is_cut):
    proxy = proxy_factory(Hurried(origin_factory(script).address, total_timeout=LATER))
    answer = proxy.exchange(GET, 30)
    if is_cut:
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert not answer.endswith(b"0\r\n\r\n")
    else:
        assert b"HTTP/1.1 504 " in answer
    assert_failed(proxy, "upstream_total_timeout")


@pytest.mark.parametrize(
    "script",
    [
        drip(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        drip(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nX: ", b"x"),
        drip(b"HTTP/1.1 103 Early\r\nX: ", b"x"),
        lambda connection, data: connection.sendall(HELLO[:20]) or connection.recv(1),
    ],
    ids=["head", "head behind an interim one", "interim head", "silence in the head"],
)
def test_a_head_that_does_not_become_whole_is_given_up_at_head_timeout(proxy_factory, origin_factory, script):
    proxy = proxy_factory(Hurried(origin_factory(script).address, head_timeout=LATER))
    assert b"HTTP/1.1 504 " in proxy.exchange(GET, 30)
    assert_failed(proxy, "upstream_head_timeout")


def test_each_head_has_a_time_of_its_own_and_the_body_none(proxy_factory, origin_factory):
    def script(connection, data):
        for part in (b"HTTP/1.1 103 Early\r\n", b"\r\nHTTP/1.1 103 Early\r\n", b"\r\n" + HELLO[:20], HELLO[20:-1]):
            connection.sendall(part)
            time.sleep(0.4)  # what is tested is that nothing happens meanwhile
        connection.sendall(HELLO[-1:])

    proxy = proxy_factory(Hurried(origin_factory(script).address, head_timeout=1.0))
    assert proxy.exchange(GET, 30).endswith(b"hello")


@pytest.mark.parametrize(
    "times",
    [
        {"read_timeout": SOON, "write_timeout": SOON},
        {"connect_timeout": SOON, "write_timeout": SOON, "read_timeout": SOON},
    ],
    ids=["between reads", "all but the first byte"],
)
def test_the_first_byte_has_its_own_time(proxy_factory, origin_factory, times):
    def script(connection, data):
        time.sleep(LATER)  # what is tested is that nothing happens meanwhile
        connection.sendall(HELLO)

    proxy = proxy_factory(Hurried(origin_factory(script).address, **times))
    assert proxy.exchange(GET, 30).endswith(b"hello")


def test_between_reads_there_is_more_time_than_for_the_first_byte(proxy_factory, origin_factory):
    def script(connection, data):
        connection.sendall(HELLO[:-1])
        time.sleep(LATER)  # what is tested is that nothing happens meanwhile
        connection.sendall(HELLO[-1:])

    proxy = proxy_factory(Hurried(origin_factory(script).address, first_byte_timeout=2 * SOON, write_timeout=SOON))
    assert proxy.exchange(GET, 30).endswith(b"hello")


def test_a_total_longer_than_the_exchange_changes_nothing(proxy_factory, origin_factory):
    origin = origin_factory(HELLO)
    proxy = proxy_factory(Hurried(origin.address, total_timeout=30))
    with proxy.connect(30) as client:
        for _ in range(3):
            client.sendall(KEEP)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert origin.n_connections == 1


def test_an_unused_connection_is_closed_at_idle_timeout(proxy_factory, origin_factory):
    ended = threading.Event()

    def script(connection, data):
        connection.sendall(HELLO)
        assert connection.recv(1) == b""
        ended.set()

    proxy = proxy_factory(Hurried(origin_factory(script).address, idle_timeout=SOON))
    assert proxy.exchange(GET, 30).endswith(b"hello")
    assert ended.wait(30)


def test_lost_tries_again_an_origin_that_was_silent(proxy_factory, origin_factory, held):
    calls = []

    def script(connection, data):
        calls.append(data)
        if len(calls) == 1:
            held.wait(30)
        connection.sendall(HELLO)

    class Again(Hurried):
        retry = RetryPolicy(lost=True)

    proxy = proxy_factory(Again(origin_factory(script).address, first_byte_timeout=SOON))
    assert proxy.exchange(GET, 30).endswith(b"hello")
    wait_until(lambda: proxy.serving.counters["pingora_retries_total"] == 1)
    assert proxy.serving.counters['pingora_upstream_failures_total{reason="first_byte_timeout"}'] == 1


@pytest.mark.parametrize(
    "name",
    [
        "connect_timeout",
        "read_timeout",
        "first_byte_timeout",
        "head_timeout",
        "write_timeout",
        "total_timeout",
        "idle_timeout",
    ],
)
@pytest.mark.parametrize("bad", [0, -1, float("nan"), 1e9])
def test_a_time_that_makes_no_sense_is_refused_by_name(name, bad):
    with pytest.raises(ValueError, match=rf"^{name}: expected 0.001 to 86400 seconds, got "):
        HttpPeer("127.0.0.1:1", **{name: bad})
