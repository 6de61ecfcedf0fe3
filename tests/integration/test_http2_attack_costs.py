"""What attacks over HTTP/2 cost a `pingora run` in processes of its own: memory, and processor time.

Time is compared with that of plain requests, measured in the same process, so it needs no quiet machine.
"""

import contextlib
import os
import time

import pytest
from apart import Apart
from conversations import wait_until
from http2_attacks import FLOODS, HOLDS, LARGE_PATH, recorded
from http2_frames import GET, FrameClient
from hyperframe.frame import DataFrame

from pingora.testing import Origin

GROWTH = float("inf") if "ASAN_OPTIONS" in os.environ else 2 << 20  # the sanitizer keeps what is freed
ATTACKS = 5
HELD_S = 0.3  # a worker that turns in circles meanwhile needs more than any attack may
BATCH = 100
# What an attack may cost, in plain requests: floods need 600 at most.
REQUESTS = 5000
# Of answers that nobody reads it is the kernel's work, for a hundred connections to the origin: 5,000 at most.
REQUESTS_OF = {"unread_answers": 15000}
HOOKS = f"""
async def request_filter(self, session, ctx):
    if session.request.path == "{LARGE_PATH}":
        return None
    if session.request.method == "POST":
        await session.read_body()
    return pingora.Response(200, {{}}, b"hi")

def suppress_error_log(self, session, error, ctx):
    return True
"""
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9000000


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    origin = Origin(LARGE)
    directory = tmp_path_factory.mktemp("apart")
    with (
        contextlib.closing(origin),
        contextlib.closing(Apart.quiet(directory, [origin.address], more=HOOKS)) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def request_s(proxy):
    """Processor time of a plain request."""
    n_requests = 10000
    ask(proxy, BATCH)
    before = proxy.cpu_seconds()
    ask(proxy, n_requests)
    return (proxy.cpu_seconds() - before) / n_requests


def ask(proxy, n_requests):
    """Ask over one connection, for a hundred answers at once."""
    with FrameClient(proxy) as client:
        for first in range(1, 2 * n_requests, 2 * BATCH):
            client.send(*[client.head(GET, i) for i in range(first, first + 2 * BATCH, 2)])
            n_left = BATCH
            for frame in client.frames():
                n_left -= isinstance(frame, DataFrame) and "END_STREAM" in frame.flags
                if n_left == 0:
                    break


@pytest.mark.parametrize("attack", FLOODS + HOLDS, ids=lambda attack: attack.__name__)
def test_an_attack_costs_little_memory_and_time(proxy, request_s, attack):
    opening = recorded(attack.__name__)
    anonymous, cpu_s = proxy.anonymous_bytes(), proxy.cpu_seconds()
    proxy.forget_peak()
    peak = proxy.peak_bytes()
    for _ in range(ATTACKS):
        with FrameClient(proxy, opening=opening) as client:
            if attack in FLOODS:
                assert client.is_closed()
            else:
                time.sleep(HELD_S)
            assert proxy.anonymous_bytes() - anonymous < GROWTH
        wait_until(lambda: proxy.n_clients() == 0)
    assert proxy.peak_bytes() - peak < GROWTH
    assert proxy.cpu_seconds() - cpu_s < ATTACKS * REQUESTS_OF.get(attack.__name__, REQUESTS) * request_s
