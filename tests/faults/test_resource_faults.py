"""What the system no longer gives: buffers, room in a socket, a disk or a reader for the logs (docs/faults.md)."""

import contextlib
import hashlib
import os
import random
import socket
import threading

import pytest
from apart import Apart
from conversations import proxy_to, wait_until
from recovery import assert_recovers

from pingora.testing import Origin

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
SMALL = 4608  # the least that Linux takes: writes are taken in parts of a few KiB
N_TRANSFERS = 40

# -- F38: writes that are taken in parts


def narrow_all(address):
    """Give every socket of this process that is connected to or from `address` the least room to send."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as end:
            if address in (end.getpeername(), end.getsockname()):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)


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


def test_f38_bodies_are_exact_where_sockets_take_a_few_kib_at_a_time(proxy_factory):
    origin = Origin(digest_back)
    host, _, port = origin.address.rpartition(":")
    proxy = proxy_factory(proxy_to(origin.address))
    rng = random.Random(38)

    def transfer(client, number):
        n_up, n_down = rng.choice([0, 100, 5000, 70_000, 300_000]), rng.choice([0, 100, 5000, 70_000, 300_000])
        body = rng.randbytes(n_up)
        head = b"PUT /%d-%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (number, n_down, n_up)
        narrow_all((host, int(port)))
        narrow_all((proxy.host, proxy.port))
        sending = threading.Thread(target=client.sendall, args=(head + body,))
        sending.start()
        answer = bytearray()
        while b"\r\n\r\n" not in answer or len(answer) - answer.index(b"\r\n\r\n") - 4 < n_down:
            part = client.recv(rng.choice([1000, 65536]))
            assert part, bytes(answer[:200])
            answer += part
        sending.join()
        got, _, payload = bytes(answer).partition(b"\r\n\r\n")
        assert b"X-Digest: %s\r\n" % hashlib.sha256(body).hexdigest().encode() in got
        assert payload == random.Random(number).randbytes(n_down)

    with proxy.connect(20) as client:
        for number in range(N_TRANSFERS):
            transfer(client, number)
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

LARGE = 8 << 20


def large_or_not(connection, received):
    if not received.startswith(b"GET /large "):
        connection.sendall(HELLO)
        return
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
    for _ in range(LARGE >> 16):
        connection.sendall(bytes(1 << 16))


def test_f19_without_buffers_new_work_is_refused_and_goes_on_when_there_are_some(tmp_path):
    origin = Origin(large_or_not)

    def happen():
        clients = [proxy.connect() for _ in range(80)]  # who read nothing: more than all buffers
        for client in clients:
            client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            client.recv(1)
        wait_until(lambda: proxy.ask("/").startswith(b"HTTP/1.1 503 "))
        for client in clients:
            client.close()
        wait_until(lambda: proxy.ask("/").endswith(b"hello"))

    with contextlib.closing(Apart.quiet(tmp_path, [origin.address], "buffered_bytes=2 << 20")) as proxy:
        assert_recovers(proxy, happen, 1)
    origin.close()
