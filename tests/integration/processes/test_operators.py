"""What operators ask of an instance that runs: by command, by signal, by its files."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from conversations import wait_until
from running import is_running


def pingora(*arguments):
    return subprocess.run([sys.executable, "-m", "pingora", *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
def control(tmp_path):
    return ["--control", str(tmp_path / "control.sock")]


def test_status_names_every_process(start, control):
    proxy = start("--workers", "2", *control)
    proxy.get()
    workers = proxy.workers(2)

    def serving():
        found = json.loads(pingora("status", "--json", *control).stdout)
        states = [worker["state"] for worker in found["generations"][0]["workers"]]
        return states == ["serving", "serving"] and found

    status = wait_until(serving)
    assert status["pid"] == proxy.process.pid
    assert status["state"] == "serving"
    assert status["listeners"] == [f"unix:{proxy.path}"]
    (generation,) = status["generations"]
    assert {generation["pid"], *(worker["pid"] for worker in generation["workers"])} == workers
    text = pingora("status", *control).stdout
    assert all(f"pid {worker['pid']}, serving" in text for worker in generation["workers"])


def test_reload_says_its_outcome_and_the_exit_code_tells(start, control):
    proxy = start(*control)
    proxy.get()
    ended = pingora("reload", *control)
    assert (ended.returncode, ended.stdout) == (0, "generation 2 has taken over\n")
    pid = proxy.get()
    proxy.write("import pingora\nserver = 1 +\n")
    ended = pingora("reload", *control)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"pingora: {proxy.file}:2: SyntaxError: invalid syntax\n"
    assert proxy.get() == pid


def test_stop_waits_for_the_end(start, control, tmp_path):
    proxy = start("--workers", "2", "--pid-file", str(tmp_path / "pid"), *control)
    proxy.get()
    workers = proxy.workers(2)
    assert int((tmp_path / "pid").read_text()) == proxy.process.pid
    ended = pingora("stop", *control)
    assert (ended.returncode, ended.stdout) == (0, "stopped\n")
    assert proxy.process.wait(60) == 0
    assert not any(map(is_running, workers))
    assert not (tmp_path / "pid").exists()
    assert not (tmp_path / "control.sock").exists()


def test_stop_now_cuts_what_runs(start, control):
    proxy = start("--grace", "3600", *control)
    with proxy.send("/slow") as client:
        assert proxy.process.stdout.readline() == "slow\n"
        assert pingora("stop", "--now", *control).stdout == "stopped\n"
        assert client.recv(1) == b""


def test_a_control_socket_of_an_instance_that_runs_is_not_taken(start, control, tmp_path):
    proxy = start(*control)
    proxy.get()
    ended = pingora("run", "--from", f"unix:{tmp_path}/other", "--to", "http://127.0.0.1:1", *control)
    assert ended.returncode == 2
    assert "belongs to an instance that runs" in ended.stderr


def test_a_control_socket_that_a_killed_instance_left_is_replaced(start, control):
    first = start(*control)
    workers = {first.get()} | first.workers(1)
    first.process.kill()
    wait_until(lambda: not any(map(is_running, workers)))
    second = start(*control)
    second.get()
    assert f"pid {second.process.pid}," in pingora("status", *control).stdout


def test_several_instances_are_told_apart_by_name(start, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert pingora("status").stderr.startswith("pingora: no instance runs (none in ")
    one = start("--name", "one")
    one.get()
    assert f"pid {one.process.pid}," in pingora("status").stdout
    other = tmp_path / "other"
    other.mkdir()
    two = start("--name", "two", directory=other)
    two.get()
    assert pingora("status").stderr == "pingora: several instances run, choose with --name: one, two\n"
    assert f"pid {two.process.pid}," in pingora("status", "--name", "two").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_another_user_is_not_heard(start, control, tmp_path):
    proxy = start(*control)
    proxy.get()
    os.chmod(control[1], 0o777)
    question = (
        "import contextlib, os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        "with contextlib.suppress(ConnectionError):\n"
        '    s.sendall(b\'{"command": "stop"}\\n\')\n'
        "    assert s.recv(100) == b''\n"
    )
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    ended = subprocess.run([sys.executable, "-c", question, control[1]], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    proxy.get()


def test_sigusr1_opens_log_files_anew(start, tmp_path):
    access, errors = tmp_path / "access.log", tmp_path / "error.log"
    files = ["--access-log-file", str(access), "--error-log-file", str(errors)]
    proxy = start("--workers", "2", "--access-log", "combined", *files)
    proxy.get()
    wait_until(lambda: access.read_text().count("GET / HTTP") == 1)
    access.rename(tmp_path / "access.1")
    errors.rename(tmp_path / "error.1")
    proxy.process.send_signal(signal.SIGUSR1)
    wait_until(errors.exists)

    def has_line():
        proxy.get()
        return "GET / HTTP" in access.read_text()

    wait_until(has_line)
    os.kill(proxy.get(), signal.SIGKILL)
    wait_until(lambda: re.search("was killed by SIGKILL", errors.read_text()))
    assert proxy.end()[0] == 0
