"""A client that misbehaves at each point of an exchange: the answer, and nothing left (docs/faults.md)."""

import contextlib
import socket

import pytest
from apart import Apart, descriptors
from inside import RESET
from recovery import assert_recovers, settle

from pingora.testing import Origin, read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
LARGE = 8 << 20
PART = bytes(1 << 16)
GET = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"POST /good HTTP/1.1\r\nHost: a\r\n"
LIMITS = "head_timeout=20, body_timeout=20, write_timeout=20, keep_alive=20"


def script(connection, received):
    if b" /large " in received.split(b"\r\n")[0]:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        for _ in range(LARGE // len(PART)):
            connection.sendall(PART)
        return
    connection.sendall(HELLO)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    directory = tmp_path_factory.mktemp("faults")
    origin = Origin(script)
    with descriptors(4096), contextlib.closing(Apart.quiet(directory, [origin.address], LIMITS)) as running:
        yield running
    origin.close()


def leave(client, is_reset):
    if is_reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


SENT = {
    "F12-head-begun": HEAD,
    "F12-head-and-body-by-length-begun": HEAD + b"Content-Length: 50\r\n\r\nfive5",
    "F12-in-a-chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n50\r\nfive5",
    "F12-in-trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y",
    "F12-in-a-large-answer": GET.replace(b"/good", b"/large"),
    "F35-behind-100-pipelined-requests": GET * 100,
    "F35-behind-100-large-ones": GET.replace(b"/good", b"/large") * 100,
}


@pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
def test_clients_that_leave_leave_nothing(proxy, sent, is_reset):
    def happen():
        clients = [proxy.connect() for _ in range(20)]
        for client in clients:
            client.sendall(sent)
        for client in clients:
            leave(client, is_reset)

    assert_recovers(proxy, happen, 4)


# The origin answers a head at once, so where one has come that may be there before the end is seen.
ENDED_SIDE = {
    "F11-after-the-request": (GET, [200]),
    "F11-after-a-large-answer-began": (GET.replace(b"/good", b"/large"), [200]),
    "F14-in-the-head": (HEAD, []),
    "F14-in-a-body-by-length": (HEAD + b"Content-Length: 50\r\n\r\nfive5", [200, 400]),
    "F14-in-a-chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n50\r\nfive5", [200, 400]),
    "F14-in-trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y", [200, 400]),
}


@pytest.mark.parametrize(("sent", "statuses"), ENDED_SIDE.values(), ids=ENDED_SIDE)
def test_clients_that_end_their_side_are_answered_and_leave_nothing(proxy, sent, statuses):
    def happen():
        clients = [proxy.connect() for _ in range(5)]
        for client in clients:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            answer = read_all(client)
            client.close()
            assert int(answer[9:12]) in statuses if statuses else not answer, answer[:200]

    assert_recovers(proxy, happen, 4)


REFUSED = {
    "F33-line-of-1-MiB": (b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "F33-value-of-1-MiB": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n", 431),
    "F33-2000-fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 2000 + b"\r\n", 431),
    "F33-fields-of-1.2-MiB": (
        b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"y" * 12000 + b"\r\n") * 100 + b"\r\n",
        431,
    ),
    "F33-chunk-line-of-1-MiB": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * (1 << 20), 400),
    "F33-trailers-of-1-MiB": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * (1 << 18), 400),
    "TLS-to-a-plain-port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), 400),
    "zeros": (bytes(100_000), 400),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_what_is_too_large_or_no_http_is_refused_and_leaves_nothing(proxy, sent, status):
    def happen():
        with proxy.connect() as client:
            with contextlib.suppress(OSError):
                client.sendall(sent)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while more := client.recv(65536):
                    answer += more
        final = answer[answer.rindex(b"HTTP/1.1 ") :]
        assert final.startswith((b"HTTP/1.1 %d " % status, b"HTTP/1.1 200 OK" if b"chunked" in sent[:80] else b"-")), (
            answer
        )

    assert_recovers(proxy, happen, 10)


def test_f33_a_head_that_comes_byte_by_byte_costs_time_in_proportion(proxy):
    """Twice the head may cost twice the time, not four times; the margin is for a coarse clock."""

    def cost(size):
        before = proxy.cpu_seconds()
        for _ in range(2):
            with proxy.connect() as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.sendall(b"GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: ")
                for _ in range(size):
                    client.sendall(b"x")
                client.sendall(b"\r\n\r\n")
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        return proxy.cpu_seconds() - before

    small = cost(3000)
    assert cost(24000) <= 8 * 2.5 * small + 0.2


def test_f13_clients_that_read_nothing_hold_a_bounded_part_of_what_they_asked_for(proxy):
    settle(proxy)
    n_clients = 60
    before = proxy.resident_bytes()
    clients = [proxy.connect() for _ in range(n_clients)]
    for client in clients:
        client.sendall(GET.replace(b"/good", b"/large"))
        assert client.recv(1)
    assert proxy.ask("/good").endswith(b"hello")
    held = proxy.resident_bytes() - before
    # the high-water mark and what one read brings; an eighth of the answers would be twice as much
    assert held <= n_clients * (65536 + 2 * 262144)
    for client in clients:
        client.close()

    assert_recovers(proxy, lambda: hold_and_leave(proxy), 1)


def hold_and_leave(proxy):
    clients = [proxy.connect() for _ in range(60)]
    for client in clients:
        client.sendall(GET.replace(b"/good", b"/large"))
        assert client.recv(1)
        client.close()
