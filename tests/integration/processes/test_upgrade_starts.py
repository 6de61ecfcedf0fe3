"""While the new program of an upgrade starts: what clients see, whether it can serve or not, and what a stop does."""

import signal
import subprocess
import sys

import pytest
from configured import PINGORA, starting, write
from conversations import wait_until
from load import Load
from running import Running

from pingora.supervisor.control import ask

HOOK = """\
import asyncio, os
from pathlib import Path
from pingora import ProxyHttp, Response


class Hook(ProxyHttp):
    async def worker_start(self):
        if Path("DIR/held").exists():
            Path("DIR/starts").touch()
        while Path("DIR/held").exists():
            await asyncio.sleep(0.01)
        if Path("DIR/fails").exists():
            raise RuntimeError("no database")

    async def request_filter(self, session, ctx):
        while session.request.path == "/held" and Path("DIR/held").exists():
            await asyncio.sleep(0.01)
        return Response(200, {}, str(os.getpid()))

    def upstream_peer(self, session, ctx):
        raise AssertionError
"""

# A pingora that takes its time to say that it serves.
LATE = """\
#!PYTHON
import sys, time
from pathlib import Path
from pingora.cli import main
from pingora.supervisor.predecessor import Predecessor

say = Predecessor.serving


def serving(self):
    Path("DIR/late").touch()
    while Path("DIR/late").exists():
        time.sleep(0.01)
    say(self)


Predecessor.serving = serving
main()
"""


class Upgraded:
    """An instance by a configuration, and an upgrade of it that waits until `release`."""

    def __init__(self, directory, start, *settings):
        self.directory = directory
        self._control = directory / "control"
        (directory / "hook_held.py").write_text(HOOK.replace("DIR", str(directory)))
        self.configure(2, *settings)
        running = start(directory / "pingora.toml", "--control", str(self._control))
        running.expect("listening on")
        self.process = running.process
        self.port = int(self.status["listeners"][1].rpartition(":")[2])

    def configure(self, workers, *settings):
        write(
            self.directory,
            'listeners = ["unix:DIR/a", "127.0.0.1:0"]',
            'hook = "hook_held:Hook"',
            'logs.access = "off"',
            f"workers = {workers}",
            "grace = 60",
            *settings,
        )

    def ask(self, command, **fields):
        return ask(self._control, command, **fields)

    @property
    def status(self):
        return self.ask("status")["status"]

    def serving(self):
        workers = (worker for generation in self.status["generations"] for worker in generation["workers"])
        return {worker["pid"] for worker in workers if worker["state"] == "serving"}

    def begin(self):
        """Begin an upgrade; return when a worker of the new program starts."""
        (self.directory / "held").touch()
        command = [*PINGORA, "upgrade", "--control", str(self._control)]
        upgrade = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_until((self.directory / "starts").exists)
        return upgrade

    def release(self):
        (self.directory / "held").unlink()

    connect = Running.connect
    is_refusing_port = Running.is_refusing_port

    def answers(self, count):
        """Ask over so many connections; give who answered."""
        clients = [self.connect("/") for _ in range(count)]
        answers = [client.makefile("rb").read() for client in clients]
        for client in clients:
            client.close()
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        return {int(answer.rpartition(b"\r\n")[2]) for answer in answers}


@pytest.fixture
def instance(tmp_path):
    with starting(tmp_path) as start:
        instance = Upgraded(tmp_path, start)
        try:
            yield instance
        finally:
            instance.ask("stop", now=True)


def test_more_workers_take_clients_once_they_serve(instance):
    before = instance.serving()
    instance.configure(6)
    with Load(instance.port) as load:
        upgrade = instance.begin()
        assert instance.answers(60) <= before
        instance.release()
        output, errors = upgrade.communicate(timeout=60)
        assert "has taken over" in output, errors
        load.wait_for_answers(50)
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    after = instance.serving()
    assert len(after) == 6
    seen = set()
    wait_until(lambda: seen.update(instance.answers(20)) or seen == after)


def test_more_workers_that_cannot_start_change_nothing(instance):
    before = instance.serving()
    instance.configure(6)
    (instance.directory / "fails").touch()
    with Load(instance.port) as load:
        upgrade = instance.begin()
        assert instance.answers(60) <= before
        instance.release()
        _, errors = upgrade.communicate(timeout=60)
        assert "no database" in errors
        load.wait_for_answers(50)
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    assert instance.serving() == before


def test_a_stop_refuses_clients_and_serves_those_there_are(tmp_path):
    with starting(tmp_path) as start:
        instance = Upgraded(tmp_path, start)
        upgrade = instance.begin()
        with instance.connect("/held") as client:
            wait_until(lambda: any(w["active"] for w in instance.status["generations"][0]["workers"]))
            instance.process.terminate()
            wait_until(instance.is_refusing_port)
            assert upgrade.wait(60) == 1
            instance.release()
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 ")
        assert instance.process.wait(60) == 0


def test_a_stop_while_the_new_program_takes_over_is_done_by_it(tmp_path):
    program = tmp_path / "late_pingora"
    program.write_text(LATE.replace("DIR", str(tmp_path)).replace("PYTHON", sys.executable))
    program.chmod(0o755)
    with starting(tmp_path) as start:
        instance = Upgraded(tmp_path, start, "ready_delay = 0.1")
        command = [*PINGORA, "upgrade", "--control", str(tmp_path / "control"), "--exec", str(program)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as upgrade:
            wait_until((tmp_path / "late").exists)
            instance.process.send_signal(signal.SIGTERM)
            (tmp_path / "late").unlink()
            assert "has taken over" in upgrade.stdout.read()
        assert instance.process.wait(60) == 0
        wait_until(instance.is_refusing_port)
