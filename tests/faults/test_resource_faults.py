"""What the system no longer gives: buffers, room in a socket, a disk or a reader for the logs (docs/faults.md)."""

import contextlib
import hashlib
import os
import random
import signal
import threading

import pytest
from apart import Apart
from conversations import Forwarding, wait_until
from inside import narrow, narrow_client, settle
from recovery import assert_recovers

from pingora.testing import Origin

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
        body += connection.recv(65536)
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
