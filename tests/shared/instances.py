"""A `pingora run` with workers for loads of minutes: how its processes are found, counted and measured."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from conversations import wait_until
from running import TCP_SOURCE

from pingora.supervisor import Refused
from pingora.supervisor.control import ask

WORKERS = 4
MEMORY_SHARE = 1.05  # a level is kept if it grows by no more than this
MEMORY_BYTES = 2 << 20  # or by no more than this
SETTLE_S = 90.0  # drains of streams of 10 s, and an old supervisor's end


@dataclass
class Level:
    """What an instance holds: processes, their descriptors, their memory (proportional)."""

    processes: int
    descriptors: int
    memory_bytes: int

    def __str__(self):
        return f"{self.processes} processes, {self.descriptors} descriptors, {self.memory_bytes / 2**20:.1f} MiB"

    def is_like(self, before):
        """Whether nothing is left of what happened between."""
        memory = max(before.memory_bytes * MEMORY_SHARE, before.memory_bytes + MEMORY_BYTES)
        is_same = (self.processes, self.descriptors) == (before.processes, before.descriptors)
        return is_same and self.memory_bytes <= memory


def children_of(pid):
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def memory_of(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class Instance:
    """One with WORKERS workers and an agent, by a program or by a configuration."""

    def __init__(self, directory, upstream, is_configured=False):
        self.directory = directory
        self._control = directory / "control.sock"
        source = TCP_SOURCE.replace("127.0.0.1:1", upstream, 1).replace("sleep(0.05)", "sleep(0.5)")
        proxy, _, server = source.partition("server = ")
        if is_configured:
            init = "\n    def __init__(self, number):\n        self.number = number\n"
            (directory / "bench_hook.py").write_text(proxy.rstrip() + "\n" + init)
            file = directory / "pingora.toml"
            self.configure()
        else:
            file = directory / "program.py"
            file.write_text(f"{proxy}server = {server}")
        command = [sys.executable, "-m", "pingora", "run", str(file), "--control", str(self._control)]
        options = ["--workers", str(WORKERS), "--drain", "60", "--health", "127.0.0.1:0"]
        self._errors = (directory / "errors").open("w")
        self._process = subprocess.Popen(
            [*command, *options], stdout=subprocess.DEVNULL, stderr=self._errors, start_new_session=True
        )
        wait_until(lambda: self._control.exists() and len(self.workers) == WORKERS and self.agent)
        self.port = int(self.status["listeners"][0].rpartition(":")[2])

    def configure(self, limits=64, hook=0):
        """Write the configuration."""
        (self.directory / "pingora.toml").write_text(
            'listeners = ["127.0.0.1:0"]\nlogs.access = "off"\n'
            f"limits.fields = {limits}\n"
            f'hook = {{ class = "bench_hook:Proxy", options = {{ number = {hook} }} }}\n'
        )

    def ask(self, command, **fields):
        return ask(self._control, command, **fields)

    @property
    def status(self):
        return self.ask("status")["status"]

    @property
    def pid(self):
        """That of the supervisor."""
        return self._process.pid

    def described_workers(self):
        """What the status says of those that serve."""
        with contextlib.suppress(Refused):  # between two supervisors
            return [
                worker
                for generation in self.status["generations"]
                for worker in generation["workers"]
                if worker["state"] == "serving"
            ]
        return []

    @property
    def workers(self):
        return [worker["pid"] for worker in self.described_workers() if worker["number"] != "agent"]

    @property
    def agent(self):
        return next((worker["pid"] for worker in self.described_workers() if worker["number"] == "agent"), None)

    def pids(self):
        """All processes of the instance."""
        found = [self.status["pid"]]
        for pid in found:
            found += children_of(pid)
        return found

    def measure(self):
        pids = self.pids()
        descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
        return Level(len(pids), descriptors, sum(map(memory_of, pids)))

    def level(self, before=None):
        """Measure what is held once all has ended that is to end: as `before`, or when nothing changes any more."""
        give_up = time.monotonic() + SETTLE_S
        last = None
        while time.monotonic() < give_up:
            with contextlib.suppress(OSError, StopIteration, Refused):  # a process ended meanwhile
                now = self.measure()
                if now.is_like(before) if before else last and now.is_like(last):
                    return now
                last = now
            time.sleep(0.5)
        return last

    def connect(self, target):
        client = socket.create_connection(("127.0.0.1", self.port), 60)
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return client

    def end(self):
        self.ask("stop", now=True)
        self._process.wait(60)
        self._errors.close()

    def kill(self):
        """Kill the supervisor, and nobody else."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(60)
        self._errors.close()
