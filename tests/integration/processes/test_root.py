"""Root with user=: the supervisor binds low ports and reads keys that only root can read, nobody else does."""

import contextlib
import json
import os
import pwd
import random
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from configured import write
from conversations import wait_until
from free_ports import free_port
from pki import Authority

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")

USER = "nobody"


@pytest.fixture(scope="module")
def interpreter():
    """An interpreter that another user may run, with what these tests have: theirs may be in somebody's home."""
    places = [path for path in sys.path if path and (Path(path, "pingora").is_dir() or path.endswith("site-packages"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    for executable in (sys.executable, "/usr/bin/python3"):
        command = [executable, "-c", "import pingora.supervisor.zygote, pingora.config.build"]
        try:
            asked = subprocess.run(command, user=USER, group="nogroup", env=environment, capture_output=True, cwd="/")
        except OSError:
            continue
        if asked.returncode == 0:
            return executable, environment
    pytest.skip(f"{USER} may run no interpreter with pingora here")


@pytest.fixture
def pingora(interpreter, tmp_path):
    """Run commands; what `run` starts ends here."""
    executable, environment = interpreter
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    started = []

    def pingora(*arguments):
        command = [executable, "-m", "pingora", *arguments, "--control", str(tmp_path / "control")]
        if arguments[0] != "run":
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        started.append(subprocess.Popen(command, env=environment, start_new_session=True))
        wait_until(lambda: (tmp_path / "control").exists() or started[-1].poll() is not None)
        return started[-1]

    yield pingora
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def low_port():
    """A port that only root may bind, which nobody has."""
    for port in random.sample(range(200, 1024), 800):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError


def test_a_low_port_is_added_and_a_key_of_root_rotated_by_reload(tmp_path, pingora):
    authority = Authority()
    first, second = authority.issue("a.test"), authority.issue("a.test")
    port, low = free_port(), low_port()

    def prepare(certificate, *ports):
        for path in certificate.write(tmp_path, "server"):
            path.chmod(0o600)
        tls = '{ certificates = [{ chain = "server.pem", key = "server.key" }] }'
        listeners = ", ".join(f'{{ address = "127.0.0.1:{one}", tls = {tls} }}' for one in ports)
        lines = [f"listeners = [{listeners}]", f'user = "{USER}"', "workers = 2"]
        file = write(tmp_path, *lines, 'upstreams.endpoints = ["127.0.0.1:1"]', 'logs.access = "off"')
        file.chmod(0o600)
        return str(file)

    def shown(at):
        """The certificate that a client gets, which is answered."""
        context = ssl.create_default_context(cadata=authority.chain.decode())
        raw = socket.create_connection(("127.0.0.1", at), 20)
        with raw, context.wrap_socket(raw, server_hostname="a.test") as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 502 ")
            return client.getpeercert(binary_form=True)

    def processes():
        status = json.loads(pingora("status", "--json").stdout)
        if not status["generations"]:
            return status["pid"], None, []
        generation = status["generations"][-1]
        serving = [worker["pid"] for worker in generation["workers"] if worker["state"] == "serving"]
        return status["pid"], generation["pid"], serving

    def all_serve(*gone):
        return wait_until(lambda: len(found := processes()[2]) == 2 and not set(gone) & set(found) and found)

    def uid_of(pid):
        return os.stat(f"/proc/{pid}").st_uid

    pingora("run", prepare(first, port))
    workers = all_serve()
    assert shown(port) == first.der
    supervisor, generation, _ = processes()
    assert [uid_of(pid) for pid in (supervisor, generation, *workers)] == [0, *[pwd.getpwnam(USER).pw_uid] * 3]

    prepare(second, port, low)
    ended = pingora("reload")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("has taken over in place\n")
    assert [shown(at) for at in (port, low) * 4] == [second.der] * 8
    assert processes() == (supervisor, generation, workers), "nobody was replaced"

    os.kill(workers[0], signal.SIGKILL)
    all_serve(workers[0])
    assert [shown(at) for at in (port, low) * 4] == [second.der] * 8
    os.kill(generation, signal.SIGKILL)
    wait_until(lambda: processes()[1] != generation)
    all_serve()
    assert [shown(at) for at in (port, low) * 4] == [second.der] * 8

    prepare(first, low)
    assert "has taken over" in pingora("upgrade").stdout
    assert [shown(low) for _ in range(4)] == [first.der] * 4
    assert uid_of(processes()[0]) == 0
    with pytest.raises(ConnectionRefusedError):
        shown(port)
    assert pingora("stop").stdout == "stopped\n"


def test_a_plain_proxy_reads_a_key_of_root(tmp_path, pingora):
    authority = Authority()
    issued, other = authority.issue("a.test"), authority.issue("a.test")
    chain, key = issued.write(tmp_path, "server")
    key.chmod(0o600)
    port = free_port()
    address = f"tls://127.0.0.1:{port}?cert={chain}&key={key}"
    pingora("run", "--from", address, "--to", "http://127.0.0.1:1", "--user", USER)

    def shown():
        context = ssl.create_default_context(cadata=authority.chain.decode())
        with socket.create_connection(("127.0.0.1", port), 20) as raw:
            return context.wrap_socket(raw, server_hostname="a.test").getpeercert(binary_form=True)

    wait_until(lambda: json.loads(pingora("status", "--json").stdout)["state"] == "serving")
    assert shown() == issued.der
    other.write(tmp_path, "server")
    assert os.stat(key).st_mode & 0o777 == 0o600
    assert pingora("reload").stdout == "generation 2 has taken over\n"
    assert shown() == other.der
    assert pingora("stop").stdout == "stopped\n"


@pytest.mark.parametrize("options", [[], ["--user", USER]], ids=["in the file", "given"])
def test_faults_are_told_without_running_code_as_root(tmp_path, pingora, options):
    (tmp_path / "hook_marks.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    lines = ["" if options else f'user = "{USER}"', 'listeners = ["127.0.0.1:0"]', 'hook = "hook_marks:A"', "drian = 1"]
    process = pingora("run", str(write(tmp_path, *lines)), *options)
    assert process.wait(60) == 2
    assert not (tmp_path / "imported").exists()


def test_a_key_that_is_not_there_is_told_with_its_place(tmp_path, pingora):
    lines = [
        f'listeners = [{{ address = "127.0.0.1:{free_port()}", tls = {{ certificates = ["no.pem"] }} }}]',
        'upstreams.endpoints = ["127.0.0.1:1"]',
    ]
    process = pingora("run", str(write(tmp_path, *lines)), "--user", USER)
    assert process.wait(60) == 2
