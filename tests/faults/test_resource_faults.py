"""What the system no longer gives: buffers, room in a socket, a disk or a reader for the logs (docs/faults.md)."""

import contextlib
import hashlib
import os
import random
import resource
import signal
import socket
import threading

import pytest
from apart import Apart, descriptors
from conversations import Forwarding, more_of, wait_until
from inside import RESET, narrow, narrow_client, settle
from recovery import assert_recovers

from pingora.testing import Origin, read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

# -- F38: writes that are taken in parts, system calls that signals interrupt

SIZES = [0, 100, 5000, 70_000, 300_000]
N_TRANSFERS = 20  # over one connection of a client
N_CONNECTIONS = 500 if os.environ.get("PINGORA_LONG") else 2


def digest_back(connection, received):
    """Answer with as many bytes as the path says, and with the hash of the request's body in the head."""
    head, _, body = received.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    body = bytearray(body)
    while len(body) < size:
        body += more_of(connection)
    number, n = map(int, head.split()[1][1:].split(b"-"))
    digest = hashlib.sha256(body).hexdigest().encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Digest: %s\r\nContent-Length: %d\r\n\r\n" % (digest, n))
    connection.sendall(random.Random(number).randbytes(n))


@pytest.fixture
def interrupt():
    """A function that sends the thread of a proxy a signal; to be set up before the proxy, whose thread ends first."""
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    yield lambda proxy: signal.pthread_kill(proxy._thread.ident, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_f38_bodies_are_exact_where_sockets_take_a_few_kib_at_a_time(interrupt, proxy_factory, origin_factory):
    origin = origin_factory(digest_back)

    class Narrow(Forwarding):
        def connected_to_upstream(self, session, peer, reused, ctx):
            narrow(origin._listener.getsockname())

    proxy = proxy_factory(Narrow(origin.address))
    rng = random.Random(38)

    def transfer(client, number):
        body, n_down = rng.randbytes(rng.choice(SIZES)), rng.choice(SIZES)
        head = b"PUT /%d-%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (number, n_down, len(body))
        sending = threading.Thread(target=client.sendall, args=(head + body,))
        sending.start()
        answer = bytearray()
        while b"\r\n\r\n" not in answer or len(answer) - answer.index(b"\r\n\r\n") - 4 < n_down:
            part = client.recv(rng.choice([1000, 65536]))
            assert part, bytes(answer[:200])
            answer += part
            interrupt(proxy)
        sending.join()
        got, _, payload = bytes(answer).partition(b"\r\n\r\n")
        assert b"X-Digest: %s\r\n" % hashlib.sha256(body).hexdigest().encode() in got
        assert payload == random.Random(number).randbytes(n_down)

    for first in range(0, N_CONNECTIONS * N_TRANSFERS, N_TRANSFERS):
        with proxy.connect(20) as client:
            settle(proxy)  # it has accepted the client
            narrow(client.getsockname())
            for number in range(first, first + N_TRANSFERS):
                transfer(client, number)


def test_f38_clients_that_take_a_few_kib_at_a_time_leave_nothing(tmp_path):
    page = random.Random(38).randbytes(300_000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page)
    origin = Origin(lambda connection, got: connection.sendall(HELLO if got.startswith(b"GET /good ") else answer))

    def happen():
        with contextlib.ExitStack() as open_clients:
            clients = [open_clients.enter_context(narrow_client(proxy)) for _ in range(20)]
            for client in clients:
                client.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            for client in clients:
                assert read_all(client).endswith(page)

    with contextlib.closing(Apart.quiet(tmp_path, [origin.address])) as proxy:
        assert_recovers(proxy, happen, 2)
    origin.close()


# -- F16: descriptors used up

N_DESCRIPTORS = 128


def test_f16_clients_that_found_no_descriptor_leave_nothing(tmp_path):
    origin = Origin(HELLO)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (N_DESCRIPTORS, min(N_DESCRIPTORS, hard)))

    def happen():
        with contextlib.ExitStack() as open_clients:
            clients = [open_clients.enter_context(proxy.connect()) for _ in range(2 * N_DESCRIPTORS)]
            for client in clients:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            for client in clients:
                assert read_all(client).endswith(b"hello")

    with (tmp_path / "errors").open("wb") as errors:
        proxy = Apart(tmp_path, [origin.address], stderr=errors, preexec_fn=limit)
    with contextlib.closing(proxy):
        assert_recovers(proxy, happen, 1)
    assert "accepting pauses: the process is short of descriptors" in (tmp_path / "errors").read_text()
    origin.close()


# -- F36: tunnels

N_TUNNELS = 1000 if os.environ.get("PINGORA_LONG") else 100
UPGRADE = b"GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("how", ["client ends", "client resets", "origin resets"])
def test_f36_tunnels_that_have_ended_leave_nothing(tmp_path, how):
    def script(connection, received):
        if not received.startswith(b"GET /tunnel "):
            connection.sendall(HELLO)
            return
        connection.settimeout(None)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        while word := connection.recv(65536):
            if word == b"reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                break
            connection.sendall(word)
        connection.close()

    def happen():
        with contextlib.ExitStack() as open_clients:
            clients = [open_clients.enter_context(proxy.connect()) for _ in range(N_TUNNELS)]
            for client in clients:
                client.sendall(UPGRADE)
            for client in clients:
                assert client.recv(65536).endswith(b"\r\n\r\n")
                client.sendall(b"word")
            for client in clients:
                assert client.recv(65536) == b"word"
                if how == "origin resets":
                    client.sendall(b"reset")
                elif how == "client resets":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if how == "origin resets":
                for client in clients:
                    with pytest.raises(ConnectionResetError):
                        client.recv(1)

    origin = Origin(script)
    with descriptors(2 * N_TUNNELS + 500), contextlib.closing(Apart.quiet(tmp_path, [origin.address])) as proxy:
        assert_recovers(proxy, happen, 1)
    origin.close()


# -- F37: logs


@pytest.mark.parametrize("kind", ["disk full", "reader gone"])
def test_f37_logs_that_cannot_be_written_stop_nothing_and_are_counted(tmp_path, origin_factory, kind):
    origin = origin_factory(HELLO)
    with contextlib.ExitStack() as open_files:
        if kind == "disk full":
            output = open_files.enter_context(open("/dev/full", "wb"))
        else:
            reading, writing = os.pipe()
            os.close(reading)
            output = open_files.enter_context(os.fdopen(writing, "wb"))
        errors = open_files.enter_context((tmp_path / "errors").open("w+"))
        proxy = Apart(tmp_path, [origin.address], access_log="combined", stdout=output, stderr=errors)
        open_files.callback(proxy.close)
        memory = None
        for i in range(2000):
            assert proxy.ask("/").endswith(b"hello")
            if i == 500:
                memory = proxy.resident_bytes()
        if "ASAN_OPTIONS" not in os.environ:
            assert proxy.resident_bytes() <= memory + (2 << 20)
        text = (tmp_path / "errors").read_text
        wait_until(lambda: "lines for stdout were dropped" in text())
        assert proxy.stop() == 0


# -- F19: buffers used up

# A client that reads nothing has up to 64 KiB and one read of 256 KiB held here: less than the eighth of the limit
# beyond which new requests are refused. So whatever the kernel keeps for a client, an end for want of memory does not
# bring the rest below seven eighths.
LIMIT = 4 << 20
N_CLIENTS = 2 * LIMIT // (64 << 10)


def answer_without_end(connection, received):
    if not received.startswith(b"GET /endless "):
        connection.sendall(HELLO)
        return
    connection.settimeout(None)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 10**15)
    while True:  # until the proxy closes
        connection.sendall(bytes(1 << 16))


def test_f19_without_buffers_new_work_is_refused_and_goes_on_when_there_are_some(tmp_path):
    origin = Origin(answer_without_end)

    def is_refusing():
        return proxy.ask("/").startswith(b"HTTP/1.1 503 ")

    def happen():
        with contextlib.ExitStack() as clients:
            for _ in range(N_CLIENTS):
                client = clients.enter_context(narrow_client(proxy))
                client.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
                if client.recv(12) == b"HTTP/1.1 503":
                    break
            wait_until(is_refusing)
        wait_until(lambda: proxy.ask("/").endswith(b"hello"))

    limits = f"buffered_bytes={LIMIT}, write_timeout=600"
    with contextlib.closing(Apart.quiet(tmp_path, [origin.address], limits)) as proxy:
        assert_recovers(proxy, happen, 1)
    origin.close()
