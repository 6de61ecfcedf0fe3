"""The image of packaging/Dockerfile, in a container of docker or podman.

PINGORA_IMAGE names an image that was built; PINGORA_ENGINE is what runs it, with options of its own if need be.
"""

import json
import os
import shlex
import shutil
import subprocess
import uuid

import pytest
from conversations import wait_until
from load import Load

IMAGE = os.environ.get("PINGORA_IMAGE")
ENGINE = shlex.split(os.environ.get("PINGORA_ENGINE", "")) or [shutil.which("docker") or shutil.which("podman") or ""]
PROGRAM = """
from pingora import ProxyHttp, Response, Server

class Gateway(ProxyHttp):
    def upstream_peer(self, session, ctx):
        raise AssertionError
    def request_filter(self, session, ctx):
        return Response(200, {}, "VERSION")

server = Server()
server.add_proxy(Gateway(), listen="127.0.0.1:0")
"""
CONFINED = [
    *("--read-only", "--tmpfs", "/tmp", "--user", "1234:1234"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
]

pytestmark = pytest.mark.skipif(
    not (IMAGE and ENGINE[0]), reason="needs docker or podman, and PINGORA_IMAGE, an image of packaging/Dockerfile"
)


def engine(*arguments):
    return subprocess.run([*ENGINE, *arguments], capture_output=True, text=True, timeout=120, check=True)


class Container:
    """One that runs the image with a program, on the network of this machine."""

    def __init__(self, directory, options, arguments):
        self._file = directory / "gateway.py"
        self.write("one")
        directory.chmod(0o755)
        self.name = f"pingora-{uuid.uuid4().hex}"
        mounted = ["--volume", f"{directory}:/etc/pingora:ro"]
        engine("run", "--detach", "--name", self.name, "--network", "host", *mounted, *options, IMAGE, *arguments)

    def write(self, version):
        self._file.write_text(PROGRAM.replace("VERSION", version))

    def pingora(self, *arguments):
        """Type a command inside."""
        return engine("exec", self.name, "pingora", *arguments).stdout

    @property
    def status(self):
        try:
            return json.loads(self.pingora("status", "--json"))
        except subprocess.CalledProcessError:  # between two supervisors, or not yet
            return {"state": None, "pid": None, "reloads": None}

    @property
    def port(self):
        return int(wait_until(lambda: self.status.get("listeners"))[0].rpartition(":")[2])

    def answer(self):
        return subprocess.run(
            ["curl", "--silent", "--fail", f"http://127.0.0.1:{self.port}/"], capture_output=True, text=True, check=True
        ).stdout

    def kill(self, name):
        engine("kill", "--signal", name, self.name)

    def processes(self):
        """The states of the processes inside, without those that look."""
        look = "for one in /proc/[0-9]*; do [ $one = /proc/$$ ] || grep ^State: $one/status; done 2>/dev/null"
        return [line.split()[1] for line in engine("exec", self.name, "sh", "-c", look).stdout.splitlines()]

    def ended(self):
        """The exit code, once it has one."""
        (state,) = json.loads(engine("inspect", self.name).stdout)
        return None if state["State"]["Running"] else state["State"]["ExitCode"]

    def logs(self):
        printed = engine("logs", self.name)
        return printed.stdout, printed.stderr


@pytest.fixture
def run(tmp_path):
    started = []

    def run(*options, arguments=("/etc/pingora/gateway.py", "--workers", "2", "--drain", "20")):
        started.append(Container(tmp_path, options, arguments))
        wait_until(lambda: started[-1].status["state"] == "serving")
        return started[-1]

    yield run
    for container in started:
        engine("rm", "--force", container.name)


@pytest.mark.parametrize("options", [pytest.param([], id="as it is"), pytest.param(CONFINED, id="confined")])
def test_nothing_is_lost_by_commands_and_signals(run, options):
    container = run(*options)
    assert container.answer() == "one"
    n_processes = len(container.processes())
    with Load(container.port, streams=0) as load:
        container.write("two")
        container.pingora("reload")
        wait_until(lambda: container.answer() == "two")
        container.write("three")
        container.kill("HUP")
        wait_until(lambda: container.answer() == "three")
        before = container.status["pid"]
        container.pingora("upgrade")
        assert container.status["pid"] not in (before, 1)
        wait_until(lambda: len(container.processes()) == n_processes)
        before = container.status["pid"]
        container.kill("USR2")
        wait_until(lambda: container.status["pid"] not in (before, None))
        load.wait_for_answers(50)
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    wait_until(lambda: len(container.processes()) == n_processes)
    assert "Z" not in container.processes()
    container.kill("TERM")
    wait_until(lambda: container.ended() is not None)
    assert container.ended() == 0


def test_stop_by_command_ends_the_container(run):
    container = run()
    assert container.pingora("stop") == "stopped\n"
    wait_until(lambda: container.ended() is not None)
    assert container.ended() == 0


def test_a_dead_supervisor_ends_the_container_with_its_code(run):
    container = run()
    pid = container.status["pid"]
    engine("exec", container.name, "python", "-c", f"import os; os.kill({pid}, 9)")
    wait_until(lambda: container.ended() is not None)
    assert container.ended() == 128 + 9


def test_without_a_place_for_its_socket_it_serves_all_the_same(tmp_path):
    container = Container(tmp_path, ["--env", "XDG_RUNTIME_DIR=/nowhere"], ["/etc/pingora/gateway.py"])
    try:
        errors = wait_until(lambda: "listening on" in (told := container.logs()[1]) and told)
        assert "only signals control this instance" in errors
        container.kill("TERM")
        wait_until(lambda: container.ended() is not None)
        assert container.ended() == 0
    finally:
        engine("rm", "--force", container.name)


def test_each_log_has_a_stream_of_its_own(run):
    container = run(arguments=["/etc/pingora/gateway.py", "--access-log", "json"])
    container.answer()
    line = wait_until(lambda: container.logs()[0])
    assert json.loads(line)["status"] == 200
    assert container.logs()[1].startswith("pingora: listening on 127.0.0.1:")
