"""As process 1 of a container: a small process stays, whatever happens to the supervisor below it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conversations import wait_until
from instances import Level, children_of, memory_of
from load import Load
from own_supervisor import APP
from running import PROGRAM, is_running

from pingora.supervisor import Refused

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
UPGRADES = 5

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="needs root and namespaces",
)


class Container:
    """The processes below an `unshare`, which stands for what starts a container."""

    def __init__(self, process):
        self._process = process

    @property
    def first(self):
        """Process 1, by its number outside."""
        return wait_until(lambda: children_of(self._process.pid))[0]

    def pids(self):
        found = [self.first]
        for pid in found:
            found += children_of(pid)
        return found

    def level(self):
        """What all hold once nothing changes any more."""
        last = [None]

        def is_steady():
            try:
                pids = self.pids()
                n_fds = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
                now = Level(len(pids), n_fds, sum(map(memory_of, pids)))
            except (OSError, StopIteration):  # one ended meanwhile
                now = None
            before, last[0] = last[0], now
            return now is not None and before is not None and now.is_like(before) and before.is_like(now) and now

        return wait_until(is_steady)

    def kill(self, number, pid=None):
        os.kill(pid or self.first, number)

    def inside(self, pid):
        """The number outside of a process, by that inside."""
        (found,) = [one for one in self.pids() if status_of(one)["NSpid"].split()[-1] == str(pid)]
        return found

    def wait(self):
        return self._process.wait(60)


def status_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.fixture
def contained(proxy):
    def contained(*arguments, **more):
        running = proxy(*arguments, prefix=UNSHARE, **more)
        running.container = Container(running.process)
        return running

    return contained


def upgrade(running):
    """Upgrade, and wait until the supervisor before is gone."""
    before = running.container.inside(running.ask("status")["status"]["pid"])
    running.ask("upgrade")
    wait_until(lambda: not os.path.exists(f"/proc/{before}"))


def test_upgrades_leave_no_process_behind(contained):
    running = contained("--workers", "2", "--drain", "20")
    first = running.container.first
    with Load(running.port) as load:
        upgrade(running)
        load.wait_for_answers(50)
    before = running.container.level()
    for _ in range(UPGRADES - 1):
        with Load(running.port, streams=1) as load:
            upgrade(running)
            load.wait_for_answers(50)
        assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    wait_until(lambda: len(running.container.pids()) == before.processes)
    after = running.container.level()
    assert after.is_like(before), f"{before} before, {after} after"
    assert running.container.first == first
    running.container.kill(signal.SIGTERM)
    assert running.container.wait() == 0
    assert running.is_refusing_port()


def test_process_1_is_small_and_imports_nothing_of_ours(contained):
    running = contained()
    first = running.container.first
    wait_until(lambda: "process_one.py" in Path(f"/proc/{first}/cmdline").read_text())
    wait_until(lambda: status_of(first)["SigBlk"] != "0" * 16)
    if "ASAN_OPTIONS" not in os.environ:  # the sanitizer's own memory is in every process
        assert memory_of(first) < 8 << 20
    assert "pingora_c" not in Path(f"/proc/{first}/maps").read_text()
    assert len(os.listdir(f"/proc/{first}/fd")) == 4, "the standard ones, and who serves"


def test_signals_reach_the_supervisor_that_serves(contained):
    running = contained("--workers", "2")
    upgrade(running)
    running.container.kill(signal.SIGHUP)
    wait_until(lambda: running.ask("status")["status"]["reloads"] == 1)
    before = running.ask("status")["status"]["pid"]
    running.container.kill(signal.SIGUSR2)

    def is_other():
        try:
            return running.ask("status")["status"]["pid"] != before
        except Refused:
            return False

    wait_until(is_other)
    running.container.kill(signal.SIGINT)
    assert running.container.wait() == 0


def test_the_container_ends_with_the_supervisor_and_its_exit_code(contained):
    running = contained()
    upgrade(running)
    running.container.kill(signal.SIGKILL, running.container.inside(running.ask("status")["status"]["pid"]))
    assert running.container.wait() == 128 + signal.SIGKILL


def test_the_container_ends_if_the_supervisor_dies_while_one_before_it_drains(contained):
    running = contained(source=PROGRAM.replace('"unix:PATH"', '"127.0.0.1:0"'))
    with running.connect("/slow") as client:
        assert running.process.stdout.readline() == "slow\n"
        running.ask("upgrade")
        new = running.container.inside(running.ask("status")["status"]["pid"])
        # Beyond its first seconds the one before it does not serve again.
        (old,) = running.ask("status")["status"]["draining"]
        wait_until(lambda: not has_sockets(running.container.inside(old)))
        running.container.kill(signal.SIGKILL, new)
        assert running.container.wait() == 1
        assert client.recv(1) == b""


def has_sockets(pid):
    """Whether a process listens on TCP."""
    sockets = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()]
    listening = {fields[9] for fields in sockets if fields[3] == "0A"}
    held = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    return any(f"socket:[{inode}]" in held for inode in listening)


def test_the_supervisor_before_serves_again_if_the_new_one_dies_at_once(contained):
    running = contained("--workers", "2")
    before = running.ask("status")["status"]["pid"]
    running.ask("upgrade")
    new = running.ask("status")["status"]["pid"]
    running.container.kill(signal.SIGKILL, running.container.inside(new))

    def serves_again():
        try:
            status = running.ask("status")["status"]
        except Refused:
            return False
        return status["pid"] == before and status["state"] == "serving"

    wait_until(serves_again)
    upgrade(running)
    assert running.ask("status")["status"]["pid"] not in (before, new)
    running.container.kill(signal.SIGTERM)
    assert running.container.wait() == 0


def test_what_drains_has_the_grace_too_when_the_container_is_stopped(contained):
    running = contained("--grace", "30")
    with running.connect("/download") as client:
        answer = client.recv(100)
        running.ask("upgrade")
        running.container.kill(signal.SIGTERM)
        while more := client.recv(65536):
            answer += more
    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert running.container.wait() == 0


def test_who_stops_the_container_from_inside_learns_of_it(contained, tmp_path):
    running = contained()
    # Somebody who is slow to print: the end of process 1 is the end of him.
    slow = "import click, time\necho = click.echo\nclick.echo = lambda *told: (time.sleep(0.3), echo(*told))\n"
    command = ["stop", "--control", str(tmp_path / "control.sock")]
    code = f"{slow}import sys\nsys.argv[1:] = {command}\nfrom pingora.cli import main\nmain()"
    inside = ["nsenter", "--target", str(running.container.first), "--pid", sys.executable, "-c", code]
    stopped = subprocess.run(inside, capture_output=True, text=True, timeout=60)
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "stopped\n", "")
    assert running.container.wait() == 0


def test_orphans_are_waited_for(contained):
    running = contained()
    first = running.container.first
    orphan = "import os, time\nif os.fork():\n os._exit(0)\ntime.sleep(0.2)"
    subprocess.run(["nsenter", "--target", str(first), "--pid", sys.executable, "-c", orphan], check=True)
    wait_until(lambda: len(children_of(first)) == 2)
    wait_until(lambda: len(children_of(first)) == 1)
    running.container.kill(signal.SIGTERM)
    assert running.container.wait() == 0


def test_a_program_that_cannot_be_loaded_ends_the_container_with_its_code(start):
    running = start(source="1 / 0\n", prefix=UNSHARE)
    _, errors = running.process.communicate(timeout=60)
    assert running.process.returncode == 2
    assert "ZeroDivisionError" in errors


def test_a_program_that_is_its_own_supervisor_stands_below_process_1_too(app):
    app.write("one", source=APP)
    app.start(prefix=UNSHARE)
    container = Container(app.process)
    assert app.status["pid"] != 1
    for text in ("two", "three"):
        app.write(text)
        before = container.inside(app.status["pid"])
        app.tell("upgrade")
        wait_until(lambda before=before: not is_running(before))
        assert app.answer()[0] == text
    wait_until(lambda: len(container.pids()) == 4)  # process 1, supervisor, generation, worker
    container.kill(signal.SIGTERM)
    assert container.wait() == 0
