"""Workers that did enough, while other things happen to them: reloads, fewer workers, a successor that fails."""

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from configured import Connection, starting, write
from conversations import wait_until
from running import TCP_SOURCE, is_running

from pingora.supervisor.control import ask

# Each worker waits in worker_start while a file "wait-VERSION" or "wait-VERSION-PID" is there.
HOOK = """\
import asyncio, os
from pingora import ProxyHttp, Response


class Waits(ProxyHttp):
    def __init__(self, version):
        self.version = version

    async def worker_start(self):
        open(f"{HERE}/begun-{self.version}-{os.getpid()}", "w").close()
        while any(os.path.exists(f"{HERE}/wait-{self.version}{which}") for which in ("", f"-{os.getpid()}")):
            await asyncio.sleep(0.01)

    def request_filter(self, session, ctx):
        return Response(200, {}, f"{self.version} {os.getpid()}")

    def upstream_peer(self, session, ctx):
        raise AssertionError
"""


class Configured:
    """An instance of a configuration file whose workers are done after 20 requests."""

    def __init__(self, directory, start):
        self.directory = directory
        (directory / "hook_waits.py").write_text(f"HERE = {str(directory)!r}\n{HOOK}")
        self._control = directory / "control"
        arguments = ("--workers", "1", "--max-requests", "20", "--drain", "60", "--control", str(self._control))
        self.running = start(self.configure(1), *arguments)

    def configure(self, version):
        return write(
            self.directory,
            'listeners = ["unix:DIR/a"]',
            'logs.access = "off"',
            f'hook = {{ class = "hook_waits:Waits", options = {{ version = {version} }} }}',
        )

    def get(self):
        """Give the version that answers, and the process."""
        client = Connection(self.directory / "a")
        with contextlib.closing(client):
            return tuple(map(int, client.get().split()))

    def begun(self, version):
        return [int(file.name.rpartition("-")[2]) for file in self.directory.glob(f"begun-{version}-*")]

    def reload(self):
        return ask(self._control, "reload")["text"]


@pytest.fixture
def configured(tmp_path):
    with starting(tmp_path) as start:
        yield Configured(tmp_path, start)


@pytest.fixture
def aside():
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def test_a_worker_that_has_done_enough_in_a_reload_is_replaced_after_it(tmp_path, configured, aside):
    _, first = configured.get()
    (tmp_path / "wait-2").touch()
    configured.configure(2)
    reloading = aside(configured.reload)
    wait_until(lambda: configured.begun(2) == [first])
    for _ in range(30):
        assert configured.get() == (1, first)
    configured.running.expect(f"worker {first} has served")
    (tmp_path / "wait-2").unlink()
    assert reloading.result().endswith("has taken over in place")
    assert configured.get()[0] == 2
    wait_until(lambda: configured.get()[1] != first)
    assert configured.get()[0] == 2
    wait_until(lambda: not is_running(first))
    configured.running.stop()
    assert "starting another" not in "".join(configured.running.lines.queue), "nobody died"


def test_a_reload_does_not_wait_for_a_worker_whose_successor_has_come(tmp_path, configured, aside):
    client = Connection(tmp_path / "a")
    first = int(client.get().split()[1])
    (tmp_path / "wait-1").touch()
    (tmp_path / f"wait-2-{first}").touch()
    for _ in range(30):
        assert configured.get() == (1, first)
    wait_until(lambda: len(configured.begun(1)) == 2)
    configured.configure(2)
    reloading = aside(configured.reload)
    wait_until(lambda: configured.begun(2) == [first])
    (tmp_path / "wait-1").unlink()
    assert reloading.result().endswith("has taken over in place")
    version, second = configured.get()
    assert version == 2
    assert second != first
    assert client.get() == f"1 {first}".encode(), "it still serves who was there"
    configured.running.stop()


FAILS_ONCE = TCP_SOURCE.replace(
    "    async def slowly",
    """    async def worker_start(self):
        try:
            os.unlink("PATH.fails")
        except FileNotFoundError:
            return
        raise RuntimeError("no database")

    async def slowly""",
)


def get(running):
    with running.connect("/") as client:
        return int(client.makefile("rb").read().rpartition(b"\r\n")[2])


def test_a_worker_whose_successor_fails_gets_another_one(proxy, tmp_path):
    running = proxy("--workers", "1", "--max-requests", "20", source=FAILS_ONCE)
    first = get(running)
    (tmp_path / "proxy.sock.fails").touch()
    wait_until(lambda: get(running) != first)
    assert not (tmp_path / "proxy.sock.fails").exists()
    code, _, errors = running.end()
    assert code == 0
    assert errors.count("ended with code 1, starting another in 0.1 s\n") == 1
    assert errors.count(f"worker {first} has served ") == 1


def test_a_worker_that_is_too_many_gets_no_successor(proxy):
    running = proxy("--workers", "2", "--max-requests", "40", "--drain", "3")
    workers = running.both()
    with contextlib.ExitStack() as stack:

        def connect():
            client = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 60))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            return client, int(client.recv(1000).rpartition(b"\r\n")[2])

        clients = []
        while len(clients) < 30:
            client, pid = connect()
            clients += [client] * (pid == workers[1])
        running.ask("scale", workers=1)
        for client in clients[1:]:  # the first keeps the worker until the end of its drain
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert int(client.recv(1000).rpartition(b"\r\n")[2]) == workers[1]
        wait_until(lambda: not is_running(workers[1]))

    def numbers():
        return {worker["number"] for worker in running.ask("status")["status"]["generations"][0]["workers"]}

    wait_until(lambda: numbers() == {0})
    assert running.end()[0] == 0
