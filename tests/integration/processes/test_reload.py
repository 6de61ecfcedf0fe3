"""Code reload: a new generation beside the old one takes over, or nothing changes."""

import signal
import socket

import pytest
from conversations import wait_until
from running import PROGRAM, is_running

VERSION_2 = PROGRAM.replace("str(os.getpid())", "'version 2'")


def read_head(client):
    head = b""
    while b"\r\n\r\n" not in head:
        more = client.recv(65536)
        assert more, head
        head += more
    return head


def request(path, **more):
    """Send a request on a connection that stays open; return the connection."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(path))
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    return client


def test_sighup_serves_the_new_code_and_the_old_workers_end(start):
    proxy = start("--workers", "2")
    old = proxy.get()
    workers = proxy.workers(2)
    proxy.write(VERSION_2)
    proxy.process.send_signal(signal.SIGHUP)
    assert proxy.told() == "pingora: generation 2 has taken over\n"
    assert proxy.text() == "version 2"
    wait_until(lambda: not any(map(is_running, workers)))
    assert old in workers
    assert proxy.end()[::2] == (0, "")


def test_an_idle_connection_lives_through_a_reload_and_is_told_to_close(start):
    proxy = start("--workers", "1")
    proxy.get()
    with request(proxy.path) as client:
        assert b"Connection: close" not in read_head(client)
        proxy.write(VERSION_2)
        proxy.process.send_signal(signal.SIGHUP)
        assert proxy.told() == "pingora: generation 2 has taken over\n"
        assert proxy.text() == "version 2"
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = read_head(client)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close\r\n" in answer
        assert client.recv(65536) == b""


def test_a_connection_that_stays_is_cut_at_the_drain_deadline(start):
    proxy = start("--workers", "1", "--drain", "0.2")
    proxy.get()
    with request(proxy.path) as client:
        read_head(client)
        proxy.process.send_signal(signal.SIGHUP)
        assert client.recv(65536) == b""
    assert proxy.end()[0] == 0


def test_a_program_that_cannot_be_loaded_changes_nothing(start):
    proxy = start("--workers", "1")
    pid = proxy.get()
    proxy.write("import pingora\n1 / 0\n")
    proxy.process.send_signal(signal.SIGHUP)
    line = proxy.told()
    assert line == f"pingora: reload refused: {proxy.file}:2: ZeroDivisionError: division by zero\n"
    assert proxy.get() == pid
    assert proxy.end()[::2] == (0, "")


def test_addresses_come_and_go(start):
    proxy = start("--workers", "2", "--drain", "20")
    proxy.get()
    other = proxy.path.with_name("other.sock")
    with request(proxy.path):  # so that the first generation stays
        for number in range(2, 8):
            more = f'server.add_proxy(Proxy(), ["unix:{other}", "127.0.0.1:0"])\n' if number % 2 == 0 else ""
            proxy.write(PROGRAM + more)
            proxy.process.send_signal(signal.SIGHUP)
            assert proxy.told() == f"pingora: generation {number} has taken over\n"
            if number % 2 == 0:
                request(other).close()
            else:
                with pytest.raises(ConnectionRefusedError):
                    request(other)
    assert proxy.end()[0] == 0


FAILS_IN_WORKER_2 = PROGRAM.replace(
    "    def make_cycle",
    """    async def worker_start(self):
        try:
            open("PATH.first", "x").close()
        except FileExistsError:
            raise RuntimeError("no database") from None

    def make_cycle""",
)


def test_a_worker_that_cannot_start_changes_nothing_anywhere(start):
    proxy = start("--workers", "2")
    proxy.get()
    workers = proxy.workers(2)
    proxy.write(FAILS_IN_WORKER_2)
    proxy.process.send_signal(signal.SIGHUP)
    for line in proxy.process.stderr:
        if "reload refused" in line or "has taken over" in line:
            break
    assert line == "pingora: reload refused: a worker ended with code 1: RuntimeError: no database\n"
    assert all(proxy.get() in workers for _ in range(20))
    assert proxy.workers(2) == workers
    assert proxy.end()[::2] == (0, "")


def test_threads_that_the_program_started_are_named(start):
    proxy = start("--workers", "1")
    proxy.get()
    proxy.write(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[60], name='poller', daemon=True).start()\n"
        + PROGRAM
    )
    proxy.process.send_signal(signal.SIGHUP)
    line = proxy.told()
    assert line.startswith("pingora: reload refused: the program has started threads while it was loaded: poller;")
    proxy.get()
    assert proxy.end()[::2] == (0, "")
