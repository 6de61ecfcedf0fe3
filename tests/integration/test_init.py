"""`pingora init`: what it writes passes its tests and serves, as it is."""

import contextlib
import http.client
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conversations import wait_until
from free_ports import reserved_ports

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
    with reserved_ports(3) as (port, *origins):
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
def running(*command, **options):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.fixture
def unit_of(monkeypatch):
    """Make a project where `home` is one; give its unit, the commands that stand in it, and what is told."""
    module = importlib.import_module("pingora.cli.init")

    def make(directory, home):
        monkeypatch.setattr(module, "HOMES", [Path(home)])
        made = CliRunner().invoke(module.init, [str(directory)])
        assert made.exit_code == 0, made.output
        unit = (directory / "pingora.service").read_text()
        return unit, re.findall(r"^#   (.+)$", unit, re.MULTILINE), made.output

    return make


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_valid(unit_of, tmp_path):
    directory = tmp_path / "my-proxy"
    unit_of(directory, tmp_path / "home")
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


def test_the_unit_names_the_directory_and_the_interpreter(unit_of, tmp_path):
    directory = tmp_path / "my-proxy"
    unit, commands, told = unit_of(directory, tmp_path / "home")
    assert f"WorkingDirectory={directory}\n" in unit
    assert f"ExecStart={sys.executable} -m pingora run pingora.toml" in unit
    assert commands == [
        "useradd --system my-proxy",
        f"chown -R my-proxy: {directory}",
        f"cp {directory}/pingora.service /etc/systemd/system/my-proxy.service",
        "systemctl enable --now my-proxy",
    ]
    assert f"the commands to install it in {directory}." in told


def test_the_unit_of_a_project_in_a_home_is_for_a_place_that_its_user_can_enter(unit_of, tmp_path):
    directory = tmp_path / "my-proxy"
    unit, commands, told = unit_of(directory, tmp_path)
    assert "WorkingDirectory=/srv/my-proxy\n" in unit
    assert f"ExecStart={sys.executable} -m pingora run pingora.toml" in unit
    assert commands == [
        f"cp -r {directory} /srv/my-proxy",
        "useradd --system my-proxy",
        "chown -R my-proxy: /srv/my-proxy",
        "cp /srv/my-proxy/pingora.service /etc/systemd/system/my-proxy.service",
        "systemctl enable --now my-proxy",
    ]
    assert "the commands to install it in /srv/my-proxy." in told


@pytest.mark.parametrize("home", [sys.prefix, os.path.realpath(sys.base_prefix)])
def test_the_unit_of_an_interpreter_in_a_home_is_for_one_beside_the_project(unit_of, tmp_path, home):
    directory = tmp_path / "my-proxy"
    unit, commands, _ = unit_of(directory, home)
    assert f"WorkingDirectory={directory}\n" in unit
    assert f"ExecStart={directory}/venv/bin/python -m pingora run pingora.toml" in unit
    assert f"ExecReload={directory}/venv/bin/python -m pingora reload" in unit
    assert commands[:2] == [f"python3 -m venv {directory}/venv", f"{directory}/venv/bin/pip install pingora"]


def test_the_service_is_asked_where_it_runs(starter):
    _, directory = starter
    unit = (directory / "pingora.service").read_text()
    assert "RuntimeDirectory=%N\n" in unit
    sockets = re.findall(r"^Exec\w+=.* (?:run|reload)\b.* --control (\S+)$", unit, re.MULTILINE)
    assert sockets == ["%t/%N/pingora.sock"] * 2
