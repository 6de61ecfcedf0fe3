"""An origin that fails at each point of an exchange: the answer to the client, and nothing left (docs/faults.md)."""

import contextlib
import os
import socket
import threading
import time

import pytest
from apart import Apart
from conversations import echo
from conversations import post as post_request
from free_ports import free_port
from inside import RESET, Gate, settle
from recovery import assert_recovers

from pingora import HttpPeer, ProxyHttp
from pingora.testing import Origin, read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CONNECT_S = 0.3
READ_S = 0.3
IS_LONG = bool(os.environ.get("PINGORA_LONG"))
# Chooses the upstream by the path: /refused nobody listens, /blackhole nobody answers the SYN, /F3 one resets what it
# accepts, else the origin. Only where a limit is to pass it is a short one.
CHOOSES = """
def upstream_peer(self, session, ctx):
    path = session.request.path
    limits = {{"connect_timeout": {connect}}} if path == "/blackhole" else {{}}
    if path.startswith("/F9-silent"):
        limits = {{"read_timeout": {read}}}
    is_second_try = session.attempts and path.startswith("/F3")
    return pingora.HttpPeer({origin!r} if is_second_try else {peers!r}.get(path, {origin!r}), **limits)
"""


def ends(data, is_reset=False):
    """An origin that sends `data` and ends the connection."""

    def script(connection, _received):
        connection.sendall(data)
        if is_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()

    return script


def stays(data):
    """An origin that sends `data` and then waits until the proxy ends the connection."""

    def script(connection, _received):
        connection.sendall(data)
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass

    return script


def drips(connection, _received):
    for i in range(len(HELLO)):
        connection.sendall(HELLO[i : i + 1])


def refuses_upload(connection, _received):
    connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
    connection.shutdown(socket.SHUT_WR)
    with contextlib.suppress(OSError):
        while connection.recv(1 << 20):  # or the kernel would take the answer back with a reset
            pass
    connection.close()


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CUT = None  # the answer has begun and ends before its end
# path: (script, status or CUT, times)
FAULTS = {
    "/F1-refused": (None, 502, 3400 if IS_LONG else 200),
    "/F3-reset-after-accept": (ends(HELLO), (200, 502), 40),
    "/F4-end-of-a-kept-connection": (ends(HELLO), (200, 502), 40),
    "/F5-end-before-an-answer": (ends(b""), 502, 40),
    "/F5-reset-before-an-answer": (ends(b"", True), 502, 40),
    "/F6-end-in-the-head": (ends(b"HTTP/1.1 200 OK\r\nContent-Le"), 502, 40),
    "/F6-reset-in-the-head": (ends(b"HTTP/1.1 2", True), 502, 40),
    "/F7-end-in-a-body-by-length": (ends(LENGTH + b"five5"), CUT, 40),
    "/F7-end-in-a-chunk": (ends(CHUNKED + b"a\r\nfive5"), CUT, 40),
    "/F7-end-between-chunks": (ends(CHUNKED + b"5\r\nfive5\r\n"), CUT, 40),
    "/F7-end-in-trailers": (ends(CHUNKED + b"5\r\nfive5\r\n0\r\nX: y"), CUT, 40),
    "/F7-reset-in-a-body": (ends(LENGTH + b"five5", True), (CUT, 502), 40),
    "/F7-bad-chunk": (stays(CHUNKED + b"5\r\nfive5\r\nx\r\n"), CUT, 40),
    "/F8-garbage": (stays(b"\x16\x03\x01" + bytes(1000) + b"\r\n\r\n"), 502, 40),
    "/F8-not-http": (stays(b"SSH-2.0-OpenSSH_9.2\r\n"), 502, 40),
    "/F8-large-head": (stays(b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20)), 502, 30),
    "/F8-many-fields": (stays(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000 + b"\r\n"), 502, 40),
    "/F8-interim-without-end": (stays(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000), 502, 40),
    "/F9-drips": (drips, 200, 10),
    "/F9-silent": (stays(b""), 504, 1),
    "/F9-silent-in-a-body": (stays(LENGTH + b"five5"), CUT, 1),
    "/F10-refuses-upload": (refuses_upload, 413, 30),
    "/good": (lambda connection, _received: connection.sendall(HELLO), 200, 40),
}


def script(connection, received):
    FAULTS[received.split()[1].decode()][0](connection, received)


@pytest.fixture(scope="module")
def blackhole():
    """An address at which a connect waits: the queue of its listener is full."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def resetting():
    """An address that resets what it accepts."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.close()

    threading.Thread(target=accept, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture(scope="module")
def origin():
    origin = Origin(script)
    yield origin
    origin.close()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, origin, blackhole, resetting):
    nobody = f"127.0.0.1:{free_port()}"
    peers = {
        "/F1-refused": nobody,
        "/F3-reset-after-accept": resetting,
        "/blackhole": blackhole,
        "/blackhole-with-a-long-limit": blackhole,
    }
    more = CHOOSES.format(peers=peers, origin=origin.address, connect=CONNECT_S, read=READ_S)
    directory = tmp_path_factory.mktemp("faults")
    with contextlib.closing(Apart.quiet(directory, [origin.address], more=more)) as running:
        yield running


def post(proxy, path):
    """Return what a POST is answered."""
    size = 300_000 if path.startswith("/F10") else 5
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    answer = b""
    with proxy.connect() as client:
        client.sendall(head % (path.encode(), size))
        with contextlib.suppress(OSError):  # it may have answered already
            client.sendall(bytes(size))
        with contextlib.suppress(ConnectionResetError):
            while more := client.recv(65536):
                answer += more
    return answer


@pytest.mark.parametrize("path", FAULTS)
def test_a_fault_has_its_answer_and_leaves_nothing(proxy, path):
    _script, wanted, times = FAULTS[path]

    def happen():
        answer = post(proxy, path)
        final = answer.rpartition(b"HTTP/1.1 103 Early Hints\r\n\r\n")[2]
        status = int(final[9:12]) if not is_cut(answer) else CUT
        assert status in (wanted if isinstance(wanted, tuple) else (wanted,)), answer

    assert_recovers(proxy, happen, times)


class WaitsConnected(ProxyHttp):
    """Asks the first address, and waits when it has a connection to it; then the second."""

    def __init__(self, *addresses):
        self.peers = [HttpPeer(address) for address in addresses]
        self.gate = Gate()

    def upstream_peer(self, session, ctx):
        return self.peers[session.attempts]

    async def connected_to_upstream(self, session, peer, reused, ctx):
        if session.attempts == 1:
            await self.gate.wait()


@pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
def test_f3_a_connection_that_dies_before_the_request_is_sent_costs_no_request(proxy_factory, origin_factory, is_reset):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hooks = WaitsConnected(f"127.0.0.1:{listener.getsockname()[1]}", origin_factory(echo).address)
        proxy = proxy_factory(hooks)
        with proxy.connect() as client:
            client.sendall(post_request(b"hello"))
            hooks.gate.await_hook()
            connection = listener.accept()[0]
            if is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
            settle(proxy)
            hooks.gate.open()
            answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"hello")


def is_cut(answer):
    """Whether an answer ends before its end; one with nothing after the head is, too."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"HTTP/1.1 200" not in head:
        return answer == b""
    if b"chunked" in head.lower():
        return not body.endswith(b"0\r\n\r\n")
    return len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])


def test_f2_connects_that_nobody_answers_end_in_504_and_others_are_served(proxy):
    def happen():
        answers = []
        clients = [threading.Thread(target=lambda: answers.append(proxy.ask("/blackhole"))) for _ in range(20)]
        began = time.monotonic()
        with proxy.connect() as longer:
            longer.sendall(b"GET /blackhole-with-a-long-limit HTTP/1.1\r\nHost: a\r\n\r\n")
            for client in clients:
                client.start()
            n_served = 0
            while len(answers) < len(clients):
                assert proxy.ask("/good").endswith(b"hello")
                n_served += 1
            assert all(answer.startswith(b"HTTP/1.1 504 ") for answer in answers), answers
            assert time.monotonic() - began >= CONNECT_S
            assert n_served > 1
            longer.setblocking(False)
            with pytest.raises(BlockingIOError):
                longer.recv(1)
            longer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)  # or it would be answered
        for client in clients:
            client.join()

    assert_recovers(proxy, happen, 1)


def test_f4_no_get_is_lost_where_each_kept_connection_has_ended(proxy):
    get = b"GET /F4-end-of-a-kept-connection HTTP/1.1\r\nHost: a\r\n\r\n"

    def happen():
        with proxy.connect() as client:
            for _ in range(100):
                client.sendall(get)
                answer = client.recv(65536)
                while not answer.endswith(b"hello"):
                    more = client.recv(65536)
                    assert more, answer
                    answer += more
                assert answer.startswith(b"HTTP/1.1 200 ")

    assert_recovers(proxy, happen, 34 if IS_LONG else 3)
