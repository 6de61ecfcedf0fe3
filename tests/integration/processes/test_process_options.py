"""What pingora.toml says about the processes: used at the start, and changed by a reload or named where it is not."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from configured import Connection, starting, write
from conversations import wait_until
from free_ports import free_port, free_ports
from running import is_running

BLOCKS = """\
import os, time
from pingora import ProxyHttp, Response


class Blocks(ProxyHttp):
    def request_filter(self, session, ctx):
        if session.request.path == "/block":
            print("blocks", flush=True)
            time.sleep(3600)
        return Response(200, {}, str(os.getpid()))

    def upstream_peer(self, session, ctx):
        raise AssertionError
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "hook_blocks.py").write_text(BLOCKS)
    with starting(tmp_path) as start:
        yield start


def program(directory, *lines, logs="", hook='"hook_blocks:Blocks"'):
    """Write a file with these lines, and `logs` in its table of that name."""
    return write(
        directory,
        'listeners = ["unix:DIR/a"]',
        f"hook = {hook}",
        *lines,
        "[logs]",
        'access = "combined"',
        logs,
    )


def pingora(*arguments):
    return subprocess.run([sys.executable, "-m", "pingora", *arguments], capture_output=True, text=True, timeout=60)


def probe(port, path="/ready"):
    """The status of a health probe; None if nobody listens."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        client.request("GET", path)
        return client.getresponse().status
    except ConnectionRefusedError:
        return None
    finally:
        client.close()


def ask(directory):
    client = Connection(directory / "a")
    with contextlib.closing(client):
        return int(client.get())


def test_a_file_says_all_that_the_command_line_can(tmp_path, start, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    port = free_port()
    running = start(
        program(
            tmp_path,
            "workers = 2",
            'grace = "2s"',
            'drain = "1m"',
            "stuck_after = 5",
            'ready_delay = "100ms"',
            f'health = "127.0.0.1:{port}"',
            "max_requests = 1_000_000",
            'max_memory = "1GiB"',
            "descriptors = 512",
            'name = "edge"',
            'pid_file = "edge.pid"',
            'control = "edge.control"',
            logs='access_file = "access.log"\nerror_file = "error.log"',
        )
    )
    wait_until(lambda: "listening on" in (tmp_path / "error.log").read_text())
    assert int((tmp_path / "edge.pid").read_text()) == running.process.pid
    wait_until(lambda: probe(port) == 200)
    pid = ask(tmp_path)
    assert "Max open files            512" in " ".join(Path(f"/proc/{pid}/limits").read_text().split("\n"))
    wait_until(lambda: "GET / HTTP/1.1" in (tmp_path / "access.log").read_text())
    status = json.loads(pingora("status", "--json", "--control", str(tmp_path / "edge.control")).stdout)
    assert [worker["number"] for worker in status["generations"][0]["workers"]] == [0, 1, "agent"]
    running.stop()
    assert not (tmp_path / "edge.pid").exists()


def test_the_command_line_holds_instead(tmp_path, start):
    file = program(tmp_path, "workers = 3", 'pid_file = "of-file.pid"', 'control = "of-file"')
    options = ["--pid-file", str(tmp_path / "given.pid"), "--control", str(tmp_path / "given"), "--workers", "1"]
    running = start(file, *options)
    running.expect("with 1 worker,")
    assert not (tmp_path / "of-file.pid").exists()
    program(tmp_path, "workers = 2", 'pid_file = "other.pid"')
    ended = pingora("reload", "--control", str(tmp_path / "given"))
    assert ended.stdout == f"{file} has taken over in place\n", "nothing of it was to change"
    running.stop()


def test_a_reload_changes_what_can_be_changed(tmp_path, start):
    control = ["--control", str(tmp_path / "control")]
    first, second = free_ports(2)
    running = start(program(tmp_path, logs='access_file = "1.log"'), *control)
    running.expect("listening on")
    pid = ask(tmp_path)
    assert probe(first) is None

    program(tmp_path, f'health = "127.0.0.1:{first}"', logs='access_file = "1.log"')
    assert pingora("reload", *control).returncode == 0
    wait_until(lambda: probe(first) == 200)
    program(tmp_path, f'health = "127.0.0.1:{second}"', logs='access_file = "2.log"')
    assert pingora("reload", *control).returncode == 0
    wait_until(lambda: probe(second) == 200)
    assert probe(first) is None
    assert ask(tmp_path) == pid
    wait_until(lambda: (tmp_path / "2.log").read_text().count("GET / HTTP/1.1") == 1)

    program(tmp_path, 'stuck_after = "500ms"', logs='access_file = "2.log"')
    assert pingora("reload", *control).returncode == 0
    wait_until(lambda: probe(second) is None)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "a"))
        client.sendall(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        running.expect(f"worker {pid} has been stuck for 0.5 s, aborting it")
    running.expect("was killed by SIGABRT")
    wait_until(lambda: not is_running(pid))

    program(tmp_path, "max_requests = 1", logs='access_file = "2.log"')
    assert pingora("reload", *control).returncode == 0
    pid = ask(tmp_path)
    ask(tmp_path)
    running.expect(f"worker {pid} has served ")
    running.stop()


def test_a_reload_names_what_it_cannot_change_and_an_upgrade_does_it(tmp_path, start):
    control = ["--control", str(tmp_path / "control")]
    file = program(tmp_path, 'pid_file = "1.pid"', logs='error_file = "error.log"')
    start(file, *control)
    wait_until((tmp_path / "1.pid").exists)
    wait_until(lambda: "listening on" in (tmp_path / "error.log").read_text())
    program(tmp_path, 'pid_file = "2.pid"', "workers = 0", 'name = "other"', "daemon = true", 'forwarded = "off"')
    ended = pingora("reload", *control)
    assert ended.returncode == 0
    later = "workers, daemon, name, pid_file, logs.error_file"
    assert ended.stdout == f"{file} has taken over in place; with the next `pingora upgrade` or restart: {later}\n"
    assert (tmp_path / "1.pid").exists()
    program(tmp_path, 'pid_file = "2.pid"', logs='error_file = "error.log"')
    assert pingora("upgrade", *control).returncode == 0
    wait_until((tmp_path / "2.pid").exists)
    pid = int((tmp_path / "2.pid").read_text())
    assert pingora("stop", *control).stdout == "stopped\n"
    wait_until(lambda: not is_running(pid))


@pytest.mark.parametrize(
    ("lines", "more", "reason"),
    [
        (['health = "127.0.0.1:PORT"'], {}, "cannot listen on '127.0.0.1:PORT': Address already in use"),
        ([], {"logs": 'access_file = "no/such/directory/log"'}, "cannot open the log file"),
        (['user = "no-such"'], {}, "pingora.toml:4:8: user: there is no such user"),
        (['group = "no-such"'], {}, "pingora.toml:4:9: group: there is no such group"),
        (
            ["workers = 3"],
            {"hook": '{ class = "hook_blocks:Blocks", options = { a = 1 } }'},
            "Blocks takes no such option",
        ),
    ],
    ids=["health", "log file", "user", "group", "more workers for a hook that cannot be made"],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(tmp_path, start, lines, more, reason):
    control = ["--control", str(tmp_path / "control")]
    running = start(program(tmp_path), *control)
    running.expect("listening on")
    pid = ask(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = str(sock.getsockname()[1])
        program(tmp_path, 'forwarded = "off"', *(line.replace("PORT", port) for line in lines), **more)
        ended = pingora("reload", *control)
    assert ended.returncode == 1
    assert reason.replace("PORT", port) in ended.stderr
    assert ask(tmp_path) == pid

    def workers():
        return json.loads(pingora("status", "--json", *control).stdout)["generations"][-1]["workers"]

    wait_until(lambda: [worker["pid"] for worker in workers()] == [pid])
    running.stop()


def test_check_finds_a_user_that_does_not_exist(tmp_path):
    (tmp_path / "hook_blocks.py").write_text(BLOCKS)
    file = program(tmp_path, 'user = "no-such"', 'group = "neither"')
    ended = pingora("check", str(file))
    assert ended.returncode == 2
    assert ended.stderr == f"{file}:3:8: user: there is no such user\n{file}:4:9: group: there is no such group\n"


def test_a_file_that_vanished_or_cannot_be_read_changes_nothing(tmp_path, start):
    control = ["--control", str(tmp_path / "control")]
    file = program(tmp_path)
    running = start(file, *control)
    running.expect("listening on")
    pid = ask(tmp_path)
    file.rename(tmp_path / "elsewhere")
    ended = pingora("reload", *control)
    assert (ended.returncode, ended.stderr) == (
        1,
        f"pingora: the configuration cannot be used:\n{file}: No such file or directory\n",
    )
    file.mkdir()
    ended = pingora("reload", *control)
    assert (ended.returncode, "Is a directory" in ended.stderr) == (1, True)
    assert ask(tmp_path) == pid
    # A generation that dies meanwhile is loaded again as it was, and its workers are replaced.
    generation = json.loads(pingora("status", "--json", *control).stdout)["generations"][-1]
    os.kill(generation["pid"], signal.SIGKILL)
    wait_until(lambda: json.loads(pingora("status", "--json", *control).stdout)["generations"][-1]["number"] == 2)
    assert ask(tmp_path) != pid
    file.rmdir()
    (tmp_path / "elsewhere").rename(file)
    assert pingora("reload", *control).returncode == 0
    running.stop()
