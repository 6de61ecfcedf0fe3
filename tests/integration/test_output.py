"""Output of hooks that nobody reads."""

import fcntl
import re
import signal
import socket
import subprocess
import sys

import pytest

PROGRAM = """
import pingora

LINE = "x" * 1023

class Prints(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer(["127.0.0.1:1"])

    def request_filter(self, session, ctx):
        if session.request.path == "/print":
            for _ in range(50 * 1024):
                print(LINE)
        return pingora.Response(200, {}, b"served")

server = pingora.Server()
server.add_proxy(Prints(), "unix:PATH")
"""


def get(path, target, timeout=60):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout)
        client.connect(str(path))
        client.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % target)
        answer = b""
        while more := client.recv(65536):
            answer += more
    return answer


@pytest.mark.parametrize("workers", ["0", "1"])
def test_printing_50_mb_that_nobody_reads_stops_nothing_and_the_loss_is_reported(tmp_path, workers):
    file, path = tmp_path / "prints.py", tmp_path / "proxy.sock"
    file.write_text(PROGRAM.replace("PATH", str(path)))
    command = [sys.executable, "-m", "pingora", "run", str(file), "--workers", workers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as proxy:
        wait_for_listener(path, proxy)
        assert get(path, b"/print").endswith(b"served")
        assert get(path, b"/").endswith(b"served")
        pipe_bytes = fcntl.fcntl(proxy.stdout.fileno(), fcntl.F_GETPIPE_SZ)
        printed = sum(len(proxy.stdout.readline()) for _ in range(pipe_bytes // 1024 + 8))  # it drains now
        report = next(line for line in proxy.stderr if "were dropped" in line)
        proxy.send_signal(signal.SIGTERM)
        output, errors = proxy.communicate(timeout=30)
    assert proxy.returncode == 0, errors
    lost = int(re.search(r"WARNING pingora.log: (\d+) lines for stdout were dropped", report)[1])
    assert lost > 0
    assert lost * 1024 + printed + len(output) == 50 << 20


def wait_for_listener(path, proxy):
    while proxy.poll() is None:
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(path)) == 0:
                return
    raise AssertionError(proxy.stderr.read())
