"""Beside the requests: services of workers and of the agent, snapshots, health probes, worker_start, recycling."""

import os
import re
import signal
import socket

import pytest
from conversations import wait_until
from free_ports import free_port
from running import TCP_SOURCE, is_running

ANSWER = """return pingora.Response(200, {}, f"{os.getpid()} {self.ticks} {self.snapshot()}")

    ticks = 0

    def snapshot(self):
        return bytes(pingora.shared("now") or b"").decode()
"""
SERVICES_OF_PROGRAM = """
class Ticking(pingora.BackgroundService):
    async def run(self):
        while True:
            proxy.ticks += 1
            await asyncio.sleep(0.01)

class Publishing(pingora.BackgroundService):
    where = "agent"

    async def run(self):
        number = 0
        while True:
            number += 1
            pingora.publish("now", f"{os.getpid()}:{number}".encode())
            await asyncio.sleep(0.01)

class Failing(pingora.BackgroundService):
    where = "agent"

    async def run(self):
        raise RuntimeError("no network")

server = pingora.Server()
for service in (Ticking(), Publishing(), Failing()):
    server.add_service(service)
proxy = Proxy()
"""
SERVICES = (
    TCP_SOURCE.replace("return pingora.Response(200, {}, str(os.getpid()))", ANSWER)
    .replace("server = pingora.Server()", SERVICES_OF_PROGRAM)
    .replace("server.add_proxy(Proxy(),", "server.add_proxy(proxy,")
)


def get(port, target="/"):
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2].decode()


def agent_of(running):
    workers = running.ask("status")["status"]["generations"][-1]["workers"]
    return next((worker["pid"] for worker in workers if worker["number"] == "agent" and worker["pid"]), 0)


def test_services_run_where_they_say_and_workers_read_what_the_agent_publishes(proxy):
    running = proxy("--workers", "2", source=SERVICES)
    agent = wait_until(lambda: agent_of(running))

    def latest():
        pid, ticks, snapshot = (get(running.port)[1] + " ").split(" ")[:3]
        return int(ticks) > 2 and snapshot and (int(pid), *map(int, snapshot.split(":")))

    pid, publisher, first = wait_until(latest)
    assert publisher == agent != pid
    wait_until(lambda: (found := latest()) and found[2] > first + 5)
    assert running.end()[0] == 0


def test_a_killed_agent_blocks_nobody_and_is_replaced(proxy):
    running = proxy("--workers", "2", source=SERVICES)
    agents = set()
    for _ in range(5):
        agents.add(wait_until(lambda: (pid := agent_of(running)) not in agents and pid))
        os.kill(max(agents, key=lambda pid: is_running(pid)), signal.SIGKILL)
        assert get(running.port)[0] == 200
    wait_until(lambda: (found := get(running.port)[1].split(" ")[2]) and int(found.split(":")[0]) not in agents)
    code, _, errors = running.end()
    assert code == 0
    assert "Failing failed, it runs again in 1 s" in errors


def test_probes_say_live_and_ready_and_not_ready_before_the_end(proxy, tmp_path):
    port = free_port()
    running = proxy("--health", f"127.0.0.1:{port}", "--ready-delay", "2")
    wait_until(lambda: running.serving() and agent_of(running))
    wait_until(lambda: get(port, "/ready") == (200, "ready\n"))
    assert get(port, "/live") == (200, "live\n")
    assert get(port, "/other")[0] == 404
    running.process.send_signal(signal.SIGTERM)
    wait_until(lambda: get(port, "/ready") == (503, "not ready\n"))
    assert get(running.port)[0] == 200
    assert running.process.wait(60) == 0


WITHOUT_COROUTINES = """
import pingora

class Proxy(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer(["127.0.0.1:1"])

server = pingora.Server()
server.add_proxy(Proxy(), "127.0.0.1:0")
"""


@pytest.mark.parametrize("source", [WITHOUT_COROUTINES, TCP_SOURCE], ids=["asyncio's loop", "uvloop"])
def test_an_agent_that_is_stopped_leaves_nothing_in_the_log(proxy, tmp_path, source):
    port = free_port()
    running = proxy("--health", f"127.0.0.1:{port}", "--metrics", f"unix:{tmp_path}/metrics", source=source)
    wait_until(lambda: agent_of(running) and get(port, "/live") == (200, "live\n"))
    code, _, errors = running.end()
    assert (code, errors) == (0, "")


STARTS = TCP_SOURCE.replace(
    "    async def slowly",
    """    async def worker_start(self):
        await asyncio.sleep(0)
        print("start", os.getpid(), flush=True)

    async def worker_stop(self):
        print("stop", os.getpid(), flush=True)

    async def slowly""",
)


def test_each_worker_starts_and_stops_its_proxies(proxy):
    running = proxy("--workers", "2", source=STARTS)
    pids = {str(pid) for pid in running.both().values()}
    code, output, _ = running.end()
    assert code == 0
    for word in ("start", "stop"):
        assert set(re.findall(rf"^{word} (\d+)$", output, re.M)) == pids


STOPS_SLOWLY = TCP_SOURCE.replace(
    "    async def slowly",
    """    async def worker_stop(self):
        print("stop", os.getpid(), flush=True)
        await asyncio.sleep(3600)

    async def slowly""",
)


def test_a_second_stop_does_not_stop_a_proxy_again(proxy):
    running = proxy("--workers", "1", source=STOPS_SLOWLY)
    worker = running.serving()[0]
    running.process.send_signal(signal.SIGTERM)
    assert running.process.stdout.readline() == f"stop {worker}\n"
    running.ask("stop", now=True)
    output, errors = running.process.communicate(timeout=60)
    assert output == ""
    assert errors.count("Proxy.worker_stop") == 1  # it took too long


GROWS = TCP_SOURCE.replace(
    "path = session.request.path\n",
    "path = session.request.path\n        self.kept = getattr(self, 'kept', b'') + b'x' * (8 << 20)\n",
    1,
)


@pytest.mark.parametrize(
    ("option", "most", "source", "why"),
    [
        ("--max-requests", "20", TCP_SOURCE, r"served \d+ requests"),
        ("--max-memory", "150", GROWS, r"grown to \d+ MiB"),
    ],
    ids=["requests", "memory"],
)
def test_a_worker_that_did_enough_is_replaced_and_nothing_is_lost(proxy, option, most, source, why):
    running = proxy(option, most, source=source)
    first = running.serving()[0]
    wait_until(lambda: int(get(running.port)[1]) != first)
    code, _, errors = running.end()
    assert code == 0
    assert re.search(rf"worker {first} has {why}, replacing it\n", errors)
    assert "starting another" not in errors
