"""9,000 clients that keep their connection and say nothing: cheap, harmless to others, ended cleanly."""

import contextlib
import os
import socket
import time

import pytest
from apart import Apart, descriptors
from conversations import wait_until
from free_ports import free_port
from pki import Authority
from recovery import most_left

N_CLIENTS = 9000
N_ENCRYPTED = 500
N_BEFORE = 1000  # from here on memory is measured: what is needed once is there
N_QUIET = 2000  # whose processor time is measured
QUIET_S = 5
MOST_SHARE = 0.01
MOST_BYTES = 1024  # of memory per connection (security.md, F31)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def clients():
    """What closes clients at the end."""
    with contextlib.ExitStack() as open_clients:
        yield open_clients


def connect(clients, proxy, count):
    """Open connections that have had an answer."""
    opened = [clients.enter_context(proxy.connect(30)) for _ in range(count)]
    for client in opened:
        client.sendall(GET)
    for client in opened:
        assert client.recv(4096).endswith(b"hello")
    return opened


@pytest.fixture
def many(clients):
    """The same as `many(proxy, count)`, where N_CLIENTS are permitted."""
    with descriptors(N_CLIENTS + 500) as is_permitted:
        if not is_permitted:
            pytest.skip(f"the hard limit of descriptors is below {N_CLIENTS + 500}")
        yield lambda proxy, count: connect(clients, proxy, count)
        clients.close()


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


def test_they_take_no_processor_time(clients, tmp_path, origin_factory):
    """Beside what a worker takes that has none; security.md, F31 allows 1 %."""
    with descriptors(N_QUIET + 500) as is_permitted, contextlib.ExitStack() as running:
        if not is_permitted:
            pytest.skip(f"the hard limit of descriptors is below {N_QUIET + 500}")
        origin = origin_factory(HELLO)
        proxy = running.enter_context(contextlib.closing(Apart.quiet(tmp_path, [origin.address], "keep_alive=600")))
        without = time_taken(proxy)
        for n in batches(N_QUIET):
            connect(clients, proxy, n)
        assert proxy.n_clients() >= N_QUIET
        assert time_taken(proxy) <= 2 * without + MOST_SHARE * QUIET_S
        assert proxy.n_clients() >= N_QUIET


def time_taken(proxy):
    """Processor time of the worker in QUIET_S seconds in which it has nothing to do."""
    wait_until(lambda: is_at_rest(proxy))
    before = proxy.cpu_seconds()
    time.sleep(QUIET_S)
    return proxy.cpu_seconds() - before


def is_at_rest(proxy):
    """Whether it has given back what it can: a second in which it took little."""
    before = proxy.cpu_seconds()
    time.sleep(1)
    return proxy.cpu_seconds() - before <= 0.05


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
    port = free_port()
    end = ENCRYPTED.format(port=port, chain=str(chain), key=str(key))
    origin = origin_factory(HELLO)
    trust = ca.trusts()

    def connect():
        client = trust.wrap_socket(socket.create_connection(("127.0.0.1", port), 30), server_hostname="localhost")
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
