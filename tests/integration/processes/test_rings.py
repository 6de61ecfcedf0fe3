"""Rings: what workers put reaches the agent, whoever dies or is replaced meanwhile; what does not is counted."""

import os
import signal

import pytest
from conversations import wait_until
from free_ports import free_port
from metrics_text import fetch
from running import TCP_SOURCE

from pingora.supervisor import Refused

# Each answer is what its request has put before; the agent writes down what it reads.
SOURCE = TCP_SOURCE.replace(
    "        return pingora.Response(200, {}, str(os.getpid()))",
    """
        self.number += 1
        record = f"{os.getpid()}:{self.number}"
        was_put = ring.put((record + session.request.path[1:]).encode())
        return pingora.Response(200, {}, record if was_put else "dropped")

    number = 0
""",
).replace(
    "server = pingora.Server()",
    """
ring = pingora.Ring("records", SIZE)

class Collect(pingora.BackgroundService):
    where = "agent"

    async def run(self):
        if os.path.exists(os.path.join(FOLDER, "pause")):
            return
        with open(os.path.join(FOLDER, "read"), "ab", buffering=0) as file:
            async for record in ring:
                file.write(record + b"\\n")

server = pingora.Server()
server.add_service(Collect())
""",
)


class Collected:
    """An instance whose agent writes down what comes through its ring, and what clients know was put."""

    def __init__(self, directory, proxy, *arguments, size=4096):
        self.directory = directory
        self.running = proxy(*arguments, source=self.source(size))
        self.put = []

    def source(self, size):
        return SOURCE.replace("SIZE", str(size)).replace("FOLDER", repr(str(self.directory)))

    def ask(self, n=1, more=""):
        """Send requests; what they put, but for those that found no room."""
        for _ in range(n):
            with self.running.connect(f"/{more}") as client:
                answer = client.makefile("rb").read().partition(b"\r\n\r\n")[2].decode()
            assert answer
            if answer != "dropped":
                self.put.append(answer + more)

    def read(self):
        file = self.directory / "read"
        return file.read_text().split("\n")[:-1] if file.exists() else []

    def wait_until_all_is_read(self):
        wait_until(lambda: set(self.put) <= set(self.read()))

    def agent(self):
        return self.running.serving().get("agent")

    def workers(self):
        """Those of both places, once both serve."""
        return wait_until(lambda: {0, 1} <= (serving := self.running.serving()).keys() and serving)


@pytest.fixture
def collected(tmp_path, proxy):
    def collected(*arguments, **more):
        return Collected(tmp_path, proxy, *arguments, **more)

    return collected


def test_records_of_all_workers_reach_the_agent_once_and_each_workers_in_order(collected):
    one = collected("--workers", "2")
    one.ask(100)
    one.wait_until_all_is_read()
    read = one.read()
    assert len(read) == 100 == len(set(read))
    of_worker = {}
    for record in read:
        pid, number = map(int, record.split(":"))
        assert number == of_worker.get(pid, 0) + 1
        of_worker[pid] = number
    assert one.running.end()[0] == 0


def test_what_a_killed_worker_has_put_is_read(collected):
    one = collected("--workers", "2")
    for _ in range(5):
        before = one.workers()
        one.ask(20)
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda before=before: one.workers()[0] != before[0])
    one.ask(20)
    one.wait_until_all_is_read()


def test_a_killed_agent_blocks_nobody_and_its_successor_reads_on(collected):
    one = collected("--workers", "2")
    for _ in range(5):
        agent = wait_until(one.agent)
        one.ask(10)
        os.kill(agent, signal.SIGKILL)
        one.ask(10)
        wait_until(lambda agent=agent: one.agent() not in (None, agent))
    one.wait_until_all_is_read()
    assert len(one.read()) <= len(one.put) + 5, "at most the record that it worked on comes again"


def test_what_finds_no_room_is_dropped_counted_and_holds_up_no_request(collected, tmp_path):
    (tmp_path / "pause").touch()
    port = free_port()
    one = collected("--metrics", f"127.0.0.1:{port}")
    one.ask(60, "x" * 100)
    assert len(one.put) == 4096 // 120

    def counted():
        metrics = fetch(port)
        return [metrics.get(f'pingora_ring_{name}_total{{ring="records"}}') for name in ("records", "dropped")]

    wait_until(lambda: counted() == [len(one.put), 60 - len(one.put)])
    (tmp_path / "pause").unlink()
    os.kill(one.agent(), signal.SIGKILL)
    one.wait_until_all_is_read()
    assert len(one.read()) == len(one.put)
    one.ask()
    one.wait_until_all_is_read()


@pytest.mark.parametrize("command", ["reload", "upgrade"])
def test_records_outlive_reloads_and_upgrades(collected, tmp_path, command):
    (tmp_path / "pause").touch()
    one = collected("--workers", "2")
    one.ask(10)
    with one.running.connect("/download") as client:  # keeps a worker that was replaced
        client.recv(10)
        for _ in range(2):
            one.running.ask(command)
            one.ask(10)
        (tmp_path / "pause").unlink()
        one.running.ask(command)
        one.ask(10)
        one.wait_until_all_is_read()
        assert client.makefile("rb").read().endswith(b"\r\n0\r\n\r\n")
    one.running.ask("stop")


def test_another_size_is_refused_and_changes_nothing(collected):
    one = collected()
    one.running.write(one.source(8192))
    for command in ("reload", "upgrade"):
        with pytest.raises(Refused, match="ring 'records' has 4096 bytes since the instance was started"):
            one.running.ask(command)
    one.ask(3)
    one.wait_until_all_is_read()
    assert one.running.end()[0] == 0
