"""`pingora init`: what it writes passes its tests and serves, as it is."""

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys

import pytest
from conversations import wait_until

from pingora.cli.init import CURLS, KINDS, STARTERS

PINGORA = [sys.executable, "-m", "pingora"]
ORIGINS = ("9001", "9002")


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(params=KINDS)
def starter(request, tmp_path):
    made = run(*PINGORA, "init", "my-proxy", "--starter", request.param, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert f"curl -i {CURLS[request.param]}" in made.stdout
    return request.param, tmp_path / "my-proxy"


def test_the_tests_of_a_starter_pass(starter):
    _, directory = starter
    ended = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=directory)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout


def test_a_starter_is_right_and_serves(starter, tmp_path):
    kind, directory = starter
    checked = run(*PINGORA, "check", cwd=directory)
    assert checked.returncode == 0, checked.stderr
    with free_ports(3) as (port, *origins):
        text = (directory / "pingora.toml").read_text().replace(":8080", f":{port}")
        for number, free in zip(ORIGINS, origins, strict=True):
            text = text.replace(f"127.0.0.1:{number}", f"127.0.0.1:{free}")
        (directory / "pingora.toml").write_text(text)
    with (
        running(sys.executable, "origins.py", *map(str, origins), cwd=directory),
        running(*PINGORA, "run", cwd=directory) as proxy,
    ):
        wait_until(lambda: proxy.poll() is not None or ask(kind, port) == 200)
        assert proxy.poll() is None


def ask(kind, port):
    path = CURLS[kind].rpartition(":8080")[2]
    headers = {"x-api-key": "secret-of-alice"} if "x-api-key" in CURLS[kind] else {}
    with contextlib.suppress(OSError):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        client.request("GET", path, headers=headers)
        return client.getresponse().status
    return None


@contextlib.contextmanager
def free_ports(count):
    import socket

    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


@contextlib.contextmanager
def running(*command, **options):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_valid(starter):
    _, directory = starter
    checked = run("systemd-analyze", "verify", str(directory / "pingora.service"))
    assert "pingora.service" not in checked.stderr, checked.stderr


def test_nothing_that_is_there_is_changed(tmp_path):
    (tmp_path / "pingora.toml").write_text("mine")
    ended = run(*PINGORA, "init", str(tmp_path))
    assert ended.returncode == 2
    assert "has pingora.toml already; name another directory" in ended.stderr
    assert os.listdir(tmp_path) == ["pingora.toml"]


def test_a_starter_imports_public_names_only():
    assert [str(file) for file in STARTERS.rglob("*.py") if "pingora_c" in file.read_text()] == []


def test_a_percent_sign_is_no_specifier_in_the_unit(tmp_path):
    assert run(*PINGORA, "init", "a%n", cwd=tmp_path).returncode == 0
    unit = (tmp_path / "a%n" / "pingora.service").read_text()
    assert "Description=a%%n, a proxy made with pingora\n" in unit
    assert f"WorkingDirectory={tmp_path}/a%%n\n" in unit


def test_the_unit_names_the_directory_and_the_interpreter(starter):
    _, directory = starter
    unit = (directory / "pingora.service").read_text()
    assert f"WorkingDirectory={directory}\n" in unit
    assert f"ExecStart={sys.executable} -m pingora run pingora.toml" in unit
