"""9,000 clients that keep their connection and say nothing: cheap, harmless to others, ended cleanly."""

import contextlib
import os

import pytest
from apart import Apart, descriptors

N_CLIENTS = 9000
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
