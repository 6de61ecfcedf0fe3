"""Worker processes: replaced when they die, none left behind."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, os, sys, time, weakref
import pingora

PARENT = os.getpid()

class Proxy(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer(["127.0.0.1:1"])

    async def request_filter(self, session, ctx):
        path = session.request.path
        if path == "/block":
            print("blocks", flush=True)
            time.sleep(3600)
        if path == "/slow":
            print("slow", flush=True)
            await asyncio.sleep(3600)
        if path == "/cycle":
            self.make_cycle()
        return pingora.Response(200, {}, str(os.getpid()))

    def make_cycle(self):
        class Miss(Exception):
            pass
        try:
            raise Miss
        except Miss as error:
            kept = error
        weakref.finalize(kept, print, "freed", flush=True)

server = pingora.Server()
server.add_proxy(Proxy(), "unix:PATH")
"""
DIES = """
class Dies(Proxy):
    @property
    def upstreams(self):
        if os.getpid() != PARENT:
            raise RuntimeError("no database")
        return Proxy.upstreams

server = pingora.Server()
server.add_proxy(Dies(), "unix:PATH")
"""


class Running:
    """A `pingora run` with workers, and requests to it."""

    def __init__(self, directory, source, arguments):
        self.path = directory / "proxy.sock"
        file = directory / "program.py"
        file.write_text(source.replace("PATH", str(self.path)))
        command = [sys.executable, "-m", "pingora", "run", str(file), *arguments]
        # A session of its own, so that a signal to its process group does not reach the tests.
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def send(self, target, timeout=60):
        """Connect as soon as the proxy listens and send a request; return the connection."""
        while True:
            assert self.process.poll() is None, self.process.stderr.read()
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(timeout)
            if client.connect_ex(str(self.path)) == 0:
                client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                return client
            client.close()

    def get(self, target="/"):
        """Return the body of an answer: the worker's process id."""
        with self.send(target) as client:
            answer = b""
            while more := client.recv(65536):
                answer += more
        return int(answer.partition(b"\r\n\r\n")[2])

    def is_refusing(self):
        """True if it listens no more."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.path)) == errno.ECONNREFUSED

    def workers(self, count):
        """Wait until there are `count` workers and return their process ids."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        return wait_until(
            lambda: (found := set(map(int, children.read_text().split()))) and len(found) == count and found
        )

    def end(self, number=signal.SIGTERM):
        """Signal the supervisor; return its exit code, what was left of its output, and its errors."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, errors


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)
    return result


def is_running(pid):
    """True unless the process is gone or only waits for its parent's wait()."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def start(tmp_path):
    running = []

    def start(*arguments, source=PROGRAM):
        running.append(Running(tmp_path, source, arguments))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.communicate(timeout=60)


@pytest.mark.parametrize("to_group", [False, True], ids=["supervisor alone", "the whole group, as a terminal does"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_cleanly_and_leaves_no_orphan(start, number, to_group):
    proxy = start("--workers", "3")
    proxy.get()
    workers = proxy.workers(3)
    if to_group and number == signal.SIGINT:
        os.killpg(proxy.process.pid, number)
        _, errors = proxy.process.communicate(timeout=60)
        code = proxy.process.returncode
    else:
        code, _, errors = proxy.end(number)
    assert (code, errors) == (0, "")
    assert not any(map(is_running, workers))


def test_a_worker_that_is_killed_is_replaced(start):
    proxy = start("--workers", "1")
    first = proxy.get()
    os.kill(first, signal.SIGKILL)
    second = proxy.get()
    assert second != first
    code, _, errors = proxy.end()
    assert code == 0
    assert f"pingora: worker {first} was killed by SIGKILL, starting another in 0.1 s\n" in errors


def test_workers_that_die_at_start_are_started_again_more_and_more_slowly(start):
    proxy = start("--workers", "1", source=PROGRAM + DIES)
    delays = []
    failures = []
    for line in proxy.process.stderr:
        if "failed: " in line:
            failures.append(line.partition("failed: ")[2])
        if found := re.search(r"ended with code 1, starting another in (\S+) s", line):
            delays.append(found[1])
        if len(delays) == 4:
            break
    assert delays == ["0.1", "0.2", "0.4", "0.8"]
    assert failures == ["RuntimeError: no database\n"] * 4
    assert proxy.end()[0] == 0


def test_workers_end_if_the_supervisor_is_killed(start):
    proxy = start("--workers", "2")
    proxy.get()
    workers = proxy.workers(2)
    proxy.process.kill()
    proxy.process.wait(60)
    wait_until(lambda: not any(map(is_running, workers)))


def test_a_worker_that_does_not_end_is_killed(start):
    proxy = start("--workers", "2", "--grace", "0")
    with proxy.send("/block"):
        assert proxy.process.stdout.readline() == "blocks\n"
        workers = proxy.workers(2)
        code, _, errors = proxy.end()
    assert code == 0
    assert re.search(r"pingora: worker \d+ does not end, killing it\n", errors)
    assert not any(map(is_running, workers))


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_second_signal_cuts_what_still_runs(start, workers):
    proxy = start("--workers", workers, "--grace", "3600")
    with proxy.send("/slow") as client:
        assert proxy.process.stdout.readline() == "slow\n"
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(proxy.is_refusing)  # the first signal has come
        assert proxy.end()[0] == 0
        assert client.recv(1) == b""


def test_cycles_that_hooks_make_are_freed_in_a_worker(start):
    proxy = start("--workers", "1")
    proxy.get("/cycle")
    assert proxy.process.stdout.readline() == "freed\n"
    assert proxy.end()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "parse"),
    [
        (["--access-log", "json"], lambda line: json.loads(line)["status"]),
        (["--access-log", "combined"], lambda line: int(line.split('" ')[1].split()[0])),
    ],
    ids=["json", "combined"],
)
def test_workers_lose_no_access_line(start, arguments, parse):
    proxy = start("--workers", "2", *arguments)
    for _ in range(50):
        proxy.get()
    code, output, _ = proxy.end()
    assert code == 0
    assert [parse(line) for line in output.splitlines()] == [200] * 50
