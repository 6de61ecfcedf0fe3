"""The four attacks of slowhttptest on `pingora run`: while they run, others are served, and at the end nothing is left.

slowhttptest asks once a second whether the service is there, with a limit of a few seconds, and so does the test.
"""

import contextlib
import os
import re
import shutil
import subprocess
import threading
import time

import pytest
from apart import Apart, descriptors
from conversations import wait_until
from recovery import most_left

PROGRAM = shutil.which("slowhttptest")
IS_LONG = bool(os.environ.get("PINGORA_LONG"))
N_CLIENTS = 5000 if IS_LONG else 400
PAGE = b"x" * 200_000
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE)
LIMITS = "head_timeout=2, body_timeout=2, write_timeout=2, keep_alive=2"
COMMON = ["-c", str(N_CLIENTS), "-r", str(N_CLIENTS), "-i", "1", "-l", "3", "-p", "3", "-v", "1"]

COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="slowhttptest is not installed")


def answer(connection, received):
    """Answer at once, but what has a body only when all of it has come."""
    while received.startswith(b"POST") and not received.endswith(b"\r\n\r\n0\r\n\r\n"):
        part = connection.recv(65536)
        if not part:
            return
        received += part
    connection.sendall(ANSWER)


@pytest.fixture
def proxy(tmp_path, origin_factory):
    with (
        descriptors(2 * N_CLIENTS + 4096),
        contextlib.closing(Apart(tmp_path, [origin_factory(answer).address], LIMITS)) as running,
    ):
        yield running


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(["-H", "-x", "10"], id="slow heads"),
        pytest.param(["-B", "-s", "8192", "-x", "10"], id="slow bodies"),
        pytest.param(["-R", "-a", "1", "-b", "2000"], id="ranges"),
        pytest.param(["-X", "-w", "1", "-y", "64", "-z", "5", "-n", "1", "-k", "3"], id="slow readers"),
    ],
)
def test_an_attack_makes_the_service_unavailable_to_nobody_else(proxy, attack):
    command = [PROGRAM, *COMMON, *attack, "-u", f"http://{proxy.host}:{proxy.port}/"]
    for _ in range(20):
        assert proxy.ask("/").endswith(PAGE)
    counts, memory = [proxy.n_descriptors()], proxy.resident_bytes()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as attacker:
        counting = threading.Thread(target=count_descriptors, args=(proxy, attacker, counts))
        counting.start()
        while attacker.poll() is None:
            assert proxy.ask("/").endswith(PAGE)
        report = COLOURS.sub("", attacker.stdout.read())
        counting.join()
    assert set(re.findall(r"service available: +(\w+)", report)) == {"YES"}, report
    assert "-R" in attack or max(counts) - counts[0] > N_CLIENTS // 8, "it was no attack"
    wait_until(lambda: proxy.n_clients() == 0)
    if "ASAN_OPTIONS" not in os.environ and not IS_LONG:  # Python's arenas of thousands do not all come back
        wait_until(lambda: proxy.resident_bytes() <= most_left(memory))


def count_descriptors(proxy, attacker, counts):
    """Count what the worker has open: a look at all connections of a busy machine takes longer than an attack."""
    while attacker.poll() is None:
        counts.append(proxy.n_descriptors())
        time.sleep(0.05)
