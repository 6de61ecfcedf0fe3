"""Upgrade: another supervisor takes over the sockets, or nothing changes."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading

import pytest
from conversations import wait_until
from load import Load
from running import PROGRAM, is_running

from pingora.supervisor import Refused
from pingora.supervisor.elders import ELDERS_MOST


def test_upgrades_lose_nothing(proxy):
    running = proxy("--workers", "2", "--drain", "20")
    supervisors = [running.process.pid]
    with Load(running.port, streams=2) as load:
        for _ in range(3):
            running.ask("upgrade")
            supervisors.append(running.ask("status")["status"]["pid"])
            load.wait_for_answers(50)
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    assert len(set(supervisors)) == 4
    assert running.process.wait(60) == 0
    assert running.ask("stop")["text"] == "stopped"
    assert running.is_refusing_port()
    wait_until(lambda: not any(map(is_running, supervisors)))


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("/bin/false", "the new program ended before it could take over"),
        ("/no/such/program", "cannot start /no/such/program: No such file or directory"),
    ],
)
def test_a_program_that_does_not_take_over_changes_nothing(proxy, program, reason):
    running = proxy("--workers", "2")
    with Load(running.port) as load:
        before = running.both()
        with pytest.raises(Refused, match=reason):
            running.ask("upgrade", exec=program)
        load.wait_for_answers(50)
        assert running.both() == before
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    assert running.end()[0] == 0


def test_a_broken_file_refuses_the_upgrade_with_its_place(proxy):
    running = proxy("--workers", "2")
    running.write("import pingora\n1 / 0\n")
    with Load(running.port) as load:
        with pytest.raises(Refused, match=r"program.py:2: ZeroDivisionError"):
            running.ask("upgrade")
        load.wait_for_answers(50)
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    assert running.ask("status")["status"]["pid"] == running.process.pid
    assert running.end()[0] == 0


def test_the_old_supervisor_serves_again_if_the_new_one_dies_at_once(proxy):
    running = proxy("--workers", "2")
    running.ask("upgrade")
    new = running.ask("status")["status"]["pid"]
    assert new != running.process.pid
    os.kill(new, signal.SIGKILL)

    def serves_again():
        try:
            return running.ask("status")["status"]["pid"] == running.process.pid
        except Refused:
            return False

    wait_until(serves_again)
    running.both()
    with Load(running.port) as load:
        load.wait_for_answers(50)
    assert load.outcome.lost == 0, load.outcome
    assert running.end()[0] == 0


def test_clients_and_health_probes_keep_their_sockets_apart(proxy):
    running = proxy("--health", "127.0.0.1:0")  # the same text as where it listens
    running.ask("upgrade")
    for _ in range(4):
        with running.connect("/") as client:
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 ")
    assert running.ask("stop")["text"] == "stopped"


def test_sigusr2_upgrades(proxy):
    running = proxy()
    running.process.send_signal(signal.SIGUSR2)

    def other():
        try:
            return running.ask("status")["status"]["pid"] != running.process.pid
        except Refused:
            return False

    wait_until(other)
    assert running.ask("stop")["text"] == "stopped"


class NotifySocket:
    """What systemd listens on. It is read all the time: a socket has room for ten messages."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._messages = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while message := self._socket.recv(4096):
            self._messages.put(message.decode().split("\n"))

    def receive_until(self, *wanted):
        """Take messages until one has all of the lines; return it."""
        seen = []

        def found():
            with contextlib.suppress(queue.Empty):
                seen.append(self._messages.get_nowait())
            return seen and set(wanted) <= set(seen[-1]) and seen[-1]

        return wait_until(found)

    def close(self):
        self._socket.shutdown(socket.SHUT_RD)  # ends recv
        self._thread.join()
        self._socket.close()


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    notified = NotifySocket(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    yield notified
    notified.close()


def test_systemd_is_told_what_happens(proxy, systemd):
    running = proxy()
    systemd.receive_until("READY=1")
    systemd.receive_until("WATCHDOG=1")
    running.ask("reload")
    systemd.receive_until("RELOADING=1")
    systemd.receive_until("READY=1")
    running.ask("upgrade")
    new = running.ask("status")["status"]["pid"]
    systemd.receive_until(f"MAINPID={new}", "READY=1")
    systemd.receive_until("WATCHDOG=1")
    running.ask("stop")
    systemd.receive_until("STOPPING=1")


ACTIVATE = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
address = "127.0.0.1:%d" % listener.getsockname()[1]
print(address, flush=True)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
command = ["-m", "pingora", "run", "--workers", "2", "--from", address, "--to", "http://127.0.0.1:1", *sys.argv[1:]]
os.execv(sys.executable, [sys.executable, *command])
"""


def test_sockets_that_systemd_opened_are_used(tmp_path):
    command = [sys.executable, "-c", ACTIVATE, "--control", str(tmp_path / "control")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        host, port = process.stdout.readline().strip().split(":")
        with socket.create_connection((host, int(port)), 30) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 502 ")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Address already in use" not in errors


def test_what_drains_has_the_grace_too_when_the_instance_is_stopped(proxy):
    running = proxy("--grace", "30")
    with running.connect("/download") as client:
        answer = client.recv(100)
        running.ask("upgrade")
        running.ask("upgrade")
        assert len(running.ask("status")["status"]["draining"]) >= 1
        assert running.ask("stop")["text"] == "stopped"
        assert running.process.wait(60) == 0, "the first supervisor has ended with its worker"
        while more := client.recv(65536):
            answer += more
    assert answer.endswith(b"\r\n0\r\n\r\n")


def test_a_stop_now_cuts_what_drains(proxy):
    running = proxy(source=PROGRAM.replace('"unix:PATH"', '"127.0.0.1:0"'))
    with running.connect("/slow") as client:
        assert running.process.stdout.readline() == "slow\n"
        running.ask("upgrade")
        running.ask("stop", now=True)
        assert client.recv(1) == b""
        assert running.process.wait(60) == 0


def slow_client(running):
    """A client of the worker that serves: for a moment after an upgrade the one before it accepts as well."""
    while True:
        client = running.connect("/slow")
        assert running.process.stdout.readline() == "slow\n"
        ((worker,),) = [generation["workers"] for generation in running.ask("status")["status"]["generations"]]
        if worker["active"] == 1:
            return client
        client.close()


def test_of_the_supervisors_that_drain_the_oldest_is_cut(proxy):
    running = proxy(source=PROGRAM.replace('"unix:PATH"', '"127.0.0.1:0"'))
    with contextlib.ExitStack() as clients:
        slow = []
        for _ in range(ELDERS_MOST + 1):
            slow.append(clients.enter_context(slow_client(running)))
            draining = running.ask("status")["status"]["draining"]
            running.ask("upgrade")
        assert len(draining) == ELDERS_MOST
        assert slow[0].recv(1) == b""
        wait_until(lambda: len(running.ask("status")["status"]["draining"]) == ELDERS_MOST)
        slow[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            slow[-1].recv(1)
        running.ask("stop", now=True)
