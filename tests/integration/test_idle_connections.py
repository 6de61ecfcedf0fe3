"""9,000 clients that keep their connection and say nothing: cheap, harmless to others, ended cleanly."""

import contextlib
import os
import socket

import pytest
from apart import Apart, descriptors
from conversations import wait_until
from pki import Authority
from recovery import most_left

N_CLIENTS = 9000
N_ENCRYPTED = 500
N_BEFORE = 1000  # from here on memory is measured: what is needed once is there
MOST_BYTES = 1024  # of memory per connection (security.md, F31)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def many():
    """Clients that had an answer: `many(proxy, count)`."""
    with descriptors(N_CLIENTS + 500) as is_permitted, contextlib.ExitStack() as clients:
        if not is_permitted:
            pytest.skip(f"the hard limit of descriptors is below {N_CLIENTS + 500}")

        def connect(proxy, count):
            opened = [clients.enter_context(proxy.connect(30)) for _ in range(count)]
            for client in opened:
                client.sendall(GET)
            for client in opened:
                assert client.recv(4096).endswith(b"hello")
            return opened

        yield connect


@pytest.fixture
def start(many, tmp_path, origin_factory):
    with contextlib.ExitStack() as running:

        def start(limits):
            origin = origin_factory(HELLO)
            return running.enter_context(contextlib.closing(Apart(tmp_path, [origin.address], limits)))

        yield start


def batches(count):
    """The origin has a thread per connection: not thousands at once."""
    return [100] * (count // 100)


def test_they_cost_little_memory_others_are_served_and_a_stop_ends_them(start, many):
    proxy = start("keep_alive=600")
    clients = [client for n in batches(N_BEFORE) for client in many(proxy, n)]
    before = proxy.resident_bytes()
    clients += [client for n in batches(N_CLIENTS - N_BEFORE) for client in many(proxy, n)]
    if "ASAN_OPTIONS" not in os.environ:
        assert (proxy.resident_bytes() - before) / (N_CLIENTS - N_BEFORE) <= MOST_BYTES
    assert proxy.n_descriptors() > N_CLIENTS
    assert proxy.ask("/").endswith(b"hello")
    for client in clients[::1000]:
        client.sendall(GET)
        assert client.recv(4096).endswith(b"hello")
    assert proxy.stop() == 0
    assert {client.recv(1) for client in clients} == {b""}, "ended, not reset"


def test_the_keep_alive_limit_ends_each(start, many):
    proxy = start("keep_alive=2")
    clients = [client for n in batches(N_CLIENTS) for client in many(proxy, n)]
    assert {client.recv(1) for client in clients} == {b""}, "ended, not reset"
    assert proxy.n_descriptors() < 500, "what is left goes to the origin"
    assert proxy.ask("/").endswith(b"hello")


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="a sanitizer keeps freed memory back")
def test_what_they_held_is_there_for_the_next(start, many):
    """Python keeps its arenas of 1 MiB while one object in them lives: not all comes back, but nothing adds up."""
    proxy = start("keep_alive=600")
    peaks = []
    for _ in range(2):
        clients = [client for n in batches(N_CLIENTS) for client in many(proxy, n)]
        peaks.append(proxy.resident_bytes())
        for client in clients:
            client.close()
        wait_until(lambda: proxy.n_clients() == 0)
    assert peaks[1] <= most_left(peaks[0])


ENCRYPTED = """
server.add_proxy(Told(), "127.0.0.1:{port}", tls=pingora.TlsSettings(pingora.Certificate({chain!r}, {key!r})))
"""


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="a sanitizer keeps freed memory back")
def test_what_encrypted_ones_held_comes_back(tmp_path, origin_factory):
    ca = Authority()
    chain, key = ca.issue("localhost").write(tmp_path, "site")
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = free.getsockname()
    end = ENCRYPTED.format(port=place[1], chain=str(chain), key=str(key))
    origin = origin_factory(HELLO)
    trust = ca.trusts()

    def connect():
        client = trust.wrap_socket(socket.create_connection(place, 30), server_hostname="localhost")
        client.sendall(GET)
        assert client.recv(4096).endswith(b"hello")
        return client

    with contextlib.closing(Apart.quiet(tmp_path, [origin.address], end=end)) as proxy:
        for _ in range(20):
            connect().close()
        before = proxy.resident_bytes()
        clients = [connect() for _ in range(N_ENCRYPTED)]
        assert proxy.resident_bytes() > most_left(before), "they hold nothing that could come back"
        for client in clients:
            client.close()
        wait_until(lambda: proxy.resident_bytes() <= most_left(before))
