"""Processes that the benchmark starts: each on its CPU, each ended by its pid, whatever happens."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Cpus:
    """The CPU of the proxy under test, the one that load generator and origin share, and what is left of others."""

    proxy: int
    load: int
    spare: tuple[int, ...] = ()

    @classmethod
    def choose(cls) -> "Cpus":
        """Take the last two CPUs this process may use; with one CPU both are the same."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[-1], allowed[-2] if len(allowed) > 1 else allowed[-1], tuple(allowed[:-2]))

    @property
    def is_shared(self) -> bool:
        return self.proxy == self.load


class Started:
    """A running process in a session of its own, so that Ctrl-C reaches only the benchmark, which then ends it."""

    def __init__(self, command: list[str], *, cpu: int | str, log: Path, env: Mapping[str, str] | None = None) -> None:
        """`cpu` is one CPU's number, or several as taskset takes them."""
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(cpu), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def last_line(self) -> str:
        """Return the last line it printed: why it did not start, as a rule."""
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no output")

    def stop(self) -> None:
        """End the process and everything below it: SIGTERM, and SIGKILL for what is left after a while."""
        family = list(tree(self.pid)) if self.is_running() else []
        if self.is_running():
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in family:
            if session_of(pid) == self.pid:
                os.kill(pid, signal.SIGKILL)


def session_of(pid: int) -> int | None:
    """Return the session of `pid`: it tells a left-over child from a stranger that got its number."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def tree(pid: int) -> Iterator[int]:
    """Yield `pid` and all its descendants, parents first."""
    yield pid
    for task in tasks(pid):
        try:
            children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from tree(int(child))


def tasks(pid: int) -> list[int]:
    """Return the thread ids of `pid`; none if it is gone."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except FileNotFoundError:
        return []


def workers(pid: int) -> list[int]:
    """Return the processes that carry the load: the descendants of `pid`, or `pid` itself if it has none."""
    return list(tree(pid))[1:] or [pid]


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free just now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return so many ports of 127.0.0.1, none twice, that were free just now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
