"""More and fewer workers while clients keep asking: by `pingora scale`, and by a configuration that changes."""

import json
import subprocess
import sys

import pytest
from configured import Connection, starting, write
from conversations import wait_until
from load import EchoOrigin, Load
from running import TCP_SOURCE, is_running

from pingora.supervisor import Refused

FAILS = """
class Fails(Proxy):
    async def worker_start(self):
        if os.path.exists("PATH.fails"):
            raise RuntimeError("no database")

server = pingora.Server()
server.add_proxy(Fails(), "127.0.0.1:0")
"""


def test_more_and_fewer_workers_lose_nothing(proxy):
    origin = EchoOrigin()
    running = proxy("--workers", "2", "--drain", "20", source=TCP_SOURCE.replace("127.0.0.1:1", origin.address, 1))
    before = running.both()
    with Load(running.port, streams=2, tunnels=4) as load:
        for number in (4, 1, 3, 6, 2):
            text = running.ask("scale", workers=number)["text"]
            assert text == ("1 worker now" if number == 1 else f"{number} workers now")
            assert set(running.serving()) == set(range(number))
            load.wait_for_answers(100)
        assert running.serving()[0] == before[0], "who stays is not touched"
        echoed = load.outcome.echoed
        wait_until(lambda: load.outcome.echoed > echoed + 20)
    origin.close()
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    workers = running.serving().values()
    wait_until(lambda: len(running.ask("status")["status"]["generations"][0]["workers"]) == 2)
    assert running.end()[0] == 0
    assert not any(map(is_running, workers))


def test_all_workers_that_came_get_clients(proxy):
    running = proxy("--workers", "1")
    running.ask("scale", workers=3)
    answered = set()

    def has_answered():
        with running.connect("/") as client:
            answered.add(int(client.makefile("rb").read().rpartition(b"\r\n")[2]))
        return answered == set(running.serving().values())

    wait_until(has_answered)
    assert len(answered) == 3


def test_workers_that_cannot_start_change_nothing(proxy, tmp_path):
    running = proxy("--workers", "2", source=TCP_SOURCE + FAILS)
    before = running.both()
    (tmp_path / "proxy.sock.fails").touch()
    with Load(running.port) as load:
        with pytest.raises(Refused, match="a worker ended with code 1"):
            running.ask("scale", workers=4)
        load.wait_for_answers(50)
        assert running.both() == before
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    (tmp_path / "proxy.sock.fails").unlink()
    running.ask("scale", workers=4)
    assert set(running.serving()) == {0, 1, 2, 3}


@pytest.mark.parametrize("number", [0, 257, "two", None])
def test_a_number_that_makes_no_sense_is_refused(proxy, number):
    running = proxy()
    with pytest.raises(Refused, match="expected 1 to 256 workers"):
        running.ask("scale", workers=number)


def test_the_command_says_its_outcome(proxy, tmp_path):
    proxy("--workers", "1")
    command = [sys.executable, "-m", "pingora", "scale", "--control", str(tmp_path / "control.sock")]
    ended = subprocess.run([*command, "2"], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "2 workers now\n")
    ended = subprocess.run([*command, "0"], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")


@pytest.fixture
def start_file(tmp_path):
    with starting(tmp_path) as start:
        yield start


def pingora(tmp_path, *arguments):
    command = [sys.executable, "-m", "pingora", *arguments, "--control", str(tmp_path / "control")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_configuration_changes_the_number_of_workers(tmp_path, start_file):
    def program(workers, *lines):
        return write(
            tmp_path,
            'listeners = ["unix:DIR/a"]',
            f"workers = {workers}",
            'logs = { access = "off", level = "error" }',
            'upstreams.endpoints = ["127.0.0.1:1"]',
            *lines,
        )

    def n_workers():
        status = json.loads(pingora(tmp_path, "status", "--json").stdout)
        return [worker["state"] for worker in status["generations"][-1]["workers"]].count("serving")

    def reload():
        ended = pingora(tmp_path, "reload")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.endswith("has taken over in place\n"), ended.stdout
        return n_workers()

    running = start_file(program(2), "--control", str(tmp_path / "control"))
    running.expect("listening on")
    client = Connection(tmp_path / "a")
    client.get()
    program(4)
    assert reload() == 4
    program(1)
    assert reload() == 1
    assert pingora(tmp_path, "scale", "3").stdout == "3 workers now\n"
    program(1, "limits.fields = 32")
    assert reload() == 3, "the file says what it said before"
    assert "has taken over" in pingora(tmp_path, "upgrade").stdout
    assert n_workers() == 3
    program(2)
    assert reload() == 2
    program(3, "limits.feilds = 32")
    ended = pingora(tmp_path, "reload")
    assert (ended.returncode, "unknown key" in ended.stderr, n_workers()) == (1, True, 2)
    client.get()
    assert pingora(tmp_path, "stop").stdout == "stopped\n"
