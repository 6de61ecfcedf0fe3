"""Who the processes are, and how they begin: --user, --group, --daemon."""

import grp
import os
import pwd
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conversations import wait_until
from running import PROGRAM, is_running

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


def ids(pid):
    """The user, the group and the other groups of a process."""
    lines = [line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    found = {name: value.split() for name, value in lines if name in ("Uid", "Gid", "Groups")}
    (uid,), (gid,) = set(map(int, found["Uid"])), set(map(int, found["Gid"]))
    return uid, gid, sorted(map(int, found["Groups"]))


def can_run(user):
    """True if a user may run the interpreter of the tests, which may be in somebody's home."""
    try:
        return subprocess.run([sys.executable, "-c", "import pingora"], user=user, capture_output=True).returncode == 0
    except OSError:
        return False


@needs_root
@pytest.mark.parametrize("options", [["--user", "nobody"], ["--group", "nogroup"]], ids=["user", "group"])
def test_all_but_the_supervisor_are_somebody_else(proxy, tmp_path, options):
    if "--user" in options and not can_run("nobody"):
        pytest.skip("nobody may not run this interpreter")
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    running = proxy(*options, "--workers", "2")
    user = pwd.getpwnam("nobody" if "--user" in options else "root")
    gid = grp.getgrnam("nogroup").gr_gid
    expected = user.pw_uid, gid, sorted(os.getgrouplist(user.pw_name, gid))
    found = running.ask("status")["status"]
    assert [ids(pid) for pid in (found["generations"][0]["pid"], *running.both().values())] == [expected] * 3
    assert ids(found["pid"])[0] == 0
    running.ask("reload")
    assert [ids(pid) for pid in running.both().values()] == [expected] * 2
    assert running.end()[0] == 0


@pytest.mark.parametrize("option", ["--user", "--group"])
@needs_root
def test_somebody_who_does_not_exist_is_one_line_and_code_2(option, tmp_path):
    command = [sys.executable, "-m", "pingora", "run", "--from", f"unix:{tmp_path}/a", "--to", "http://127.0.0.1:1"]
    ended = subprocess.run([*command, option, "no-such"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr == f"pingora: {option} 'no-such': there is no such {option[2:]}\n"


def daemon(tmp_path, source):
    file = tmp_path / "program.py"
    file.write_text(source.replace("PATH", str(tmp_path / "proxy.sock")))
    command = [sys.executable, "-m", "pingora", "run", str(file), "--daemon", "--pid-file", str(tmp_path / "pid")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_daemon_serves_when_the_command_returns_and_holds_no_descriptor_of_it(tmp_path):
    ended = daemon(tmp_path, PROGRAM)  # which waits for the end of stdout and stderr
    assert ended.returncode == 0
    assert ended.stderr.startswith("pingora: listening on ")
    pid = int((tmp_path / "pid").read_text())
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "proxy.sock"))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_running(pid))


def test_a_daemon_that_cannot_start_says_why(tmp_path):
    ended = daemon(tmp_path, "import pingora\n1 / 0\n")
    assert ended.returncode == 2
    assert ended.stderr.endswith("program.py:2: ZeroDivisionError: division by zero\n")
