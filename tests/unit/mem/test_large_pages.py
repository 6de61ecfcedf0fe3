"""Pages of 16 and 64 KiB, as kernels for AArch64 have: what is given back or mapped is whole ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from compilers import can_compile

SOURCE = Path(__file__).parents[2] / "shared" / "large_pages.c"

SESSIONS = """
from pingora_c.h2.probe import Probe

REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]

def carry(client, server):
    while said := client.drain():
        assert server.feed(said)
        assert client.feed(server.drain())

# What each maps follows what those before it did: one that ends has others behind it.
ended, pairs = [], []
for number in range(33):
    ended.append(Probe(False))
    pairs.append((Probe(False), Probe(True)))
for client, server in pairs:
    carry(client, server)
    assert client.request(REQUEST) == 1
    carry(client, server)
    client.fall_idle()
    server.fall_idle()
ended.clear()
for client, server in pairs:
    assert server.respond(1, [(b":status", b"200")]) == 0
    assert client.feed(server.drain())
    assert ("fields", 1, [(b":status", b"200")], True) in client.events, client.events
"""

RINGS = """
import mmap, os
from pingora.rings import Memory

memory = Memory.create("records", 4096)
rings = []
for slot in range(20):
    memory.slots.try_own(slot, 0, os.getpid())
    rings.append(memory.ring(slot))
for slot, ring in enumerate(rings):
    while ring.put(b"%08d" % slot):
        pass
del rings
for slot in range(20):
    ring, n, at = memory.ring(slot), 0, 0
    while (one := ring.peek(at)) is not None:
        record, at = one
        assert record == b"%08d" % slot
        n += 1
    assert n == 4096 // 16
"""


@pytest.fixture(scope="module", params=[16384, 65536])
def preload(request, tmp_path_factory):
    """The environment of a process with such pages."""
    if os.sysconf("SC_PAGE_SIZE") >= request.param:
        pytest.skip("the system has pages as large")
    if not can_compile("cc"):
        pytest.skip("needs cc and libc6-dev to make a library")
    library = tmp_path_factory.mktemp("pages") / "pages.so"
    command = ["cc", f"-DPAGE={request.param}L", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    before = os.environ.get("LD_PRELOAD", "")
    return os.environ | {"LD_PRELOAD": f"{before}:{library}".removeprefix(":")}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(SESSIONS, id="http2_sessions_that_rest_or_end_leave_what_others_use"),
        pytest.param(RINGS, id="rings_smaller_than_a_page_are_mapped_and_apart"),
    ],
)
def test_pages_larger_than_4_kib(preload, program):
    done = subprocess.run([sys.executable, "-c", program], env=preload, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
