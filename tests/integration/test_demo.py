"""The demonstration behind `make run`."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pingora.cli.demo import GATEWAY, HINTS

DEMO = [sys.executable, "-m", "pingora.cli.demo"]
README = Path(__file__).parents[2] / "README.md"

pytestmark = pytest.mark.skipif(not GATEWAY.is_file(), reason="the demonstration runs from a checkout")


@pytest.fixture
def demo():
    with subprocess.Popen(
        [*DEMO, "--port", "0", "--origins", "0", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def read_hints(process):
    """Return the lines that are printed at the start."""
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if "Ctrl-C ends" in line:
            return lines
    raise AssertionError(process.stderr.read())


def answer(command):
    """Do what a `curl -i [-H FIELD] URL` of the hints does."""
    host, port = re.search(r"http://([\d.]+):(\d+)/", command).groups()
    field = re.search(r"-H '(.*?)'", command)
    head = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n" + (f"{field[1]}\r\n" if field else "")
    with socket.create_connection((host, int(port)), 30) as client:
        client.sendall(f"{head}\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


def test_hints_tell_the_truth_and_ctrl_c_ends_all_without_a_traceback(demo):
    commands = [line for line in read_hints(demo) if line.startswith("curl ")]
    assert len(commands) == 2
    for line in commands:
        command, expected = re.split(r"\s{3,}", line)
        status = re.match(r"\d+ \w+", expected)[0]
        for body in re.findall(r'"(.*?)"', expected):
            got = answer(command)
            assert got.startswith(f"HTTP/1.1 {status}\r\n")
            assert got.partition("\r\n\r\n")[2].startswith(body)
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
    _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 0
    assert "Traceback" not in errors
    assert "INFO gateway: GET / 200 " in errors
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--port", "TAKEN"],
            "cannot listen on '127.0.0.1:TAKEN': Address already in use; end what listens there",
        ),
        (
            ["--port", "0", "--origins", "0", "TAKEN"],
            "the demonstration needs port TAKEN for an origin: Address already",
        ),
    ],
    ids=["the gateway's", "an origin's"],
)
def test_a_port_that_is_taken_is_one_line_and_code_2(arguments, message):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        ended = subprocess.run(
            [*DEMO, *(argument.replace("TAKEN", port) for argument in arguments)],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("pingora: " + message.replace("TAKEN", port))
    assert ended.stderr.count("\n") == 1


def test_readme_says_what_the_demonstration_says():
    commands = [
        line.strip()
        for line in HINTS.format(gateway="127.0.0.1:8080", first=9001, second=9002).splitlines()
        if "curl" in line
    ]
    readme = README.read_text()
    for line in commands:
        command, expected = re.split(r"\s{3,}", line)
        assert f"$ {command}\n" in readme
        for body in re.findall(r'"(.*?)"', expected):
            assert body in readme
