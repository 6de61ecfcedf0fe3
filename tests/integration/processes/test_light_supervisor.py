"""The supervisor holds little: not what serves, not what read the command line, no library that it does not speak."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conversations import wait_until
from running import TCP_SOURCE

from pingora.supervisor.control import ask

CONFIG = """\
[[listeners]]
address = "127.0.0.1:0"

[upstreams]
endpoints = ["127.0.0.1:9"]
"""
# What a supervisor imports is asked in a process that imports the same in the same way.
IMPORTED = """
import sys
from pingora.cli import start
from pingora.supervisor.main import import_supervisor
before = set(sys.modules)
import_supervisor()
print(*before)
print(*sys.modules)
"""
# They read where to listen, and take the gauges of the dead out of what was counted.
ALLOWED_OF_THE_CORE = {"pingora_c/upstream/address", "pingora_c/stats/reading"}


def libraries_of(pid):
    """Give the names of the compiled modules and libraries that a process has mapped."""
    files = re.findall(r"\s(/\S+\.so\S*)$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
    return {re.sub(r"(?:.*/(?=pingora_c/)|.*/)(.*?)\..*", r"\1", file) for file in files}


def check_libraries(pid):
    libraries = libraries_of(pid)
    assert {name for name in libraries if name.startswith("pingora_c/")} == ALLOWED_OF_THE_CORE
    assert not libraries & {"libssl", "libcrypto", "_ssl", "_hashlib", "loop", "_core", "_rust", "_decimal"}


@pytest.fixture
def supervised(tmp_path):
    running = []

    def supervised(*arguments):
        control = tmp_path / "control.sock"
        command = [sys.executable, "-m", "pingora", "run", *arguments, "--control", str(control)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        wait_until(lambda: control.exists() and ask(control, "status")["status"]["state"] == "serving")
        return running[0].pid, lambda command: ask(control, command)

    yield supervised
    for process in running:
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("kind", ["program", "plain", "configuration"])
def test_a_supervisor_maps_neither_the_core_nor_openssl_nor_uvloop(kind, supervised, tmp_path):
    (tmp_path / "gateway.py").write_text(TCP_SOURCE)
    (tmp_path / "pingora.toml").write_text(CONFIG)
    arguments = {
        "program": [str(tmp_path / "gateway.py")],
        "plain": ["--from", "127.0.0.1:0", "--to", "http://127.0.0.1:9"],
        "configuration": [str(tmp_path / "pingora.toml")],
    }
    pid, tell = supervised(*arguments[kind])
    check_libraries(pid)
    worker = tell("status")["status"]["generations"][0]["workers"][0]["pid"]
    assert "libssl" in libraries_of(worker), "it is seen where it is"
    assert ("loop" in libraries_of(worker)) == (kind == "program"), "uvloop is for hooks that await"
    assert "taken over" in tell("reload")["text"]
    check_libraries(pid)


def test_a_supervisor_imports_neither_click_nor_what_serves():
    asked = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, timeout=60, check=True)
    at_first, imported = map(set, map(str.split, asked.stdout.splitlines()))
    assert "asyncio" not in at_first, "the process that loads the program is started before"
    assert "pingora.supervisor.instance" in imported
    heavy = {"click", "ssl", "uvloop", "msgspec", "tomllib", "pingora.server", "pingora.serving", "pingora.loading"}
    assert not imported & heavy
    assert not [name for name in imported if name.startswith("pingora.config")]
