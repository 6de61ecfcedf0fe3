"""Allocations of Python objects that fail while a client is accepted and served: nothing is left open, all goes on."""

import json
import subprocess
import sys

import pytest
from pki import Authority

pytest.importorskip("_testcapi")

PROGRAM = """
import asyncio, json, os, socket, sys
import _testcapi
import pingora
from pingora import UpstreamTls

origin = socket.create_server(("127.0.0.1", 0), backlog=64)
origin.setblocking(False)
to = "127.0.0.1:%d" % origin.getsockname()[1]
kind = sys.argv[1]

class Proxy(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer([("https://" if kind == "upstream" else "") + to],
        tls=UpstreamTls(verify=False) if kind == "upstream" else None, passive=pingora.PassiveHealth(failures=0))
    retry = pingora.RetryPolicy(attempts=1)

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def take():
    try:
        while True:
            origin.accept()[0].close()
    except BlockingIOError:
        pass

async def main():
    tls = pingora.TlsSettings(pingora.Certificate(sys.argv[2], sys.argv[3])) if kind == "tls" else None
    async with pingora.serve(Proxy(), tls=tls) as serving:
        host, port = serving.address.rsplit(":", 1)

        async def settle():
            while serving.n_connections or serving.counters["pingora_requests_active"]:
                take()
                await asyncio.sleep(0)
            take()
            await asyncio.sleep(0)

        for first in range(-1, 120):
            client = socket.create_connection((host, int(port)))
            client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
            loop_tick = serving.reactor.tick
            if first >= 0:
                _testcapi.set_nomemory(first, first + 1)
            try:
                loop_tick()
                loop_tick()
                loop_tick()
            except MemoryError:
                pass
            finally:
                _testcapi.remove_mem_hooks()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
            client.close()
            await settle()
            if first == -1:
                before = descriptors()
        await settle()
        after = descriptors()
        counters = serving.counters
        print(json.dumps({"before": before, "after": after, "open": counters["pingora_connections_open"],
                          "active": counters["pingora_requests_active"], "requests": counters["pingora_requests_total"],
                          "in_flight": Proxy.upstreams.endpoints[0].in_flight}))

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["plain", "tls", "upstream"])
def test_whichever_allocation_fails_nothing_is_left_open(tmp_path, kind):
    chain, key = Authority().issue("a.test").write(tmp_path, "a")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(chain), str(key)], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["after"] == told["before"]
    assert (told["open"], told["active"], told["in_flight"]) == (0, 0, 0)
    assert kind == "tls" or told["requests"] > 60  # most of them failed late or not at all
