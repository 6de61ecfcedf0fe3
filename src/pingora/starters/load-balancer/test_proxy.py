"""What pingora.toml promises, against origins of the test's own."""

import http.client
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PINGORA = [sys.executable, "-m", "pingora"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def proxy(tmp_path, origin_factory):
    """Run pingora.toml with other addresses; give the port."""
    text = (HERE / "pingora.toml").read_text()
    for number in ("9001", "9002"):
        origin = origin_factory(f"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{number}".encode())
        text = text.replace(f"127.0.0.1:{number}", origin.address)
    port = free_port()
    file = tmp_path / "pingora.toml"
    file.write_text(text.replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
    process = subprocess.Popen([*PINGORA, "run", str(file)])
    while process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.01)
    yield port
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def get(port: int, path: str = "/") -> tuple[int, str]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request("GET", path)
    response = client.getresponse()
    return response.status, response.read().decode()


def test_the_configuration_is_right():
    checked = subprocess.run([*PINGORA, "check", "pingora.toml"], cwd=HERE, capture_output=True, text=True)
    assert re.search(r"ok, .* to 2 upstreams", checked.stdout), checked.stderr


def test_requests_go_to_both_origins(proxy):
    assert {get(proxy) for _ in range(10)} == {(200, "9001"), (200, "9002")}
