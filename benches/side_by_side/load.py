"""Load generators: wrk (closed loop, as fast as answers come) and h2load (a fixed rate, or a fixed number)."""

import math
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .client import Protocol
from .processes import Cpus

H2_CONNECTIONS = 8
H2_STREAMS = 16  # of each
# Servers choose among the suites of TLS 1.3 by rules of their own: with one offered, all seal with the same.
ONE_SUITE = """
openssl_conf = main
[main]
ssl_conf = ssl
[ssl]
system_default = load
[load]
Ciphersuites = TLS_AES_128_GCM_SHA256
"""
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}


class LoadFailed(Exception):
    """The load generator met errors: a result with them compares nothing."""


@dataclass(frozen=True)
class Load:
    """What wrk reported of one run."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def url(port: int, path: str, protocol: Protocol = Protocol.HTTP1) -> str:
    return f"{protocol.scheme}://127.0.0.1:{port}{path}"


def pinned(cpus: Cpus, command: list[str]) -> list[str]:
    return ["taskset", "-c", str(cpus.load), *command]


def wrk(cpus: Cpus, target: str, *, seconds: int, connections: int = 64, headers: tuple[str, ...] = ()) -> Load:
    """Run wrk with one thread; LoadFailed if there was an error or an answer that is not 2xx or 3xx."""
    options = [part for header in headers for part in ("-H", header)]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *options, target]
    with tempfile.NamedTemporaryFile("w", prefix="side-by-side-", suffix=".cnf") as suite:
        suite.write(ONE_SUITE)
        suite.flush()
        env = {**os.environ, "OPENSSL_CONF": suite.name}
        finished = subprocess.run(pinned(cpus, command), capture_output=True, text=True, check=False, env=env)
    if finished.returncode:
        raise LoadFailed(finished.stderr.strip() or f"wrk ended with {finished.returncode}")
    return parse_wrk(finished.stdout)


def h2load(cpus: Cpus, target: str, *, seconds: int, log: Path, headers: tuple[str, ...] = ()) -> Load:
    """Run h2load with one thread over HTTP/2; LoadFailed as for wrk. Percentiles are those of its log of requests."""
    log.unlink(missing_ok=True)
    options = [part for header in headers for part in ("-H", header)]
    command = ["h2load", "-t1", f"-c{H2_CONNECTIONS}", f"-m{H2_STREAMS}", f"-D{seconds}", f"--log-file={log}"]
    finished = subprocess.run(pinned(cpus, [*command, *options, target]), capture_output=True, text=True, check=False)
    if finished.returncode:
        raise LoadFailed(finished.stderr.strip() or f"h2load ended with {finished.returncode}")
    times_us = answered_us(log)
    percentiles = [percentile(times_us, share) for share in (0.50, 0.99)]
    return Load(len(times_us), float(seconds), *percentiles)


def parse_wrk(printed: str) -> Load:
    trouble = re.search(r"^\s*(Socket errors|Non-2xx or 3xx responses):.*$", printed, re.MULTILINE)
    if trouble:
        raise LoadFailed(trouble[0].strip())
    counted = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m|h)", printed)
    if not counted or counted[1] == "0":
        raise LoadFailed("wrk counted no requests")
    return Load(
        requests=int(counted[1]),
        seconds=float(counted[2]) * UNITS[counted[3]] / 1e6,
        p50_us=percentile_of(printed, "50%"),
        p99_us=percentile_of(printed, "99%"),
    )


def percentile_of(printed: str, name: str) -> float:
    found = re.search(rf"^\s*{name}\s+([\d.]+)(us|ms|s|m|h) *$", printed, re.MULTILINE)
    if not found:
        raise LoadFailed(f"wrk printed no {name} latency")
    return float(found[1]) * UNITS[found[2]]


def counted_requests(target: str, *, requests: int, connections: int) -> list[str]:
    """Return the command that sends exactly so many requests over so many connections."""
    return ["h2load", "--h1", "-t1", f"-c{connections}", f"-n{requests}", target]


@dataclass(frozen=True)
class OpenLoad:
    """What h2load measured of requests sent at a fixed rate."""

    requests: int
    asked_per_second: float
    per_second: float
    p50_us: float
    p99_us: float


def open_loop(cpus: Cpus, target: str, *, per_second: float, seconds: int, connections: int, log: Path) -> OpenLoad:
    """Send at a fixed rate whatever the answers do, and take the percentiles from h2load's log of requests."""
    log.unlink(missing_ok=True)
    rate = f"--rps={per_second / connections:.3f}"
    command = ["h2load", "--h1", "-t1", f"-c{connections}", f"-D{seconds}", "--warm-up-time=1", rate]
    finished = subprocess.run(
        pinned(cpus, [*command, f"--log-file={log}", target]), capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise LoadFailed(finished.stderr.strip() or f"h2load ended with {finished.returncode}")
    times_us = answered_us(log)
    return OpenLoad(
        requests=len(times_us),
        asked_per_second=per_second,
        per_second=len(times_us) / seconds,
        p50_us=percentile(times_us, 0.50),
        p99_us=percentile(times_us, 0.99),
    )


def answered_us(log: Path) -> list[int]:
    """Return the times of the requests in h2load's log, the shortest first; LoadFailed if one was not answered 200."""
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    # Status -1 is a request that the end of the run cut off.
    answered = [row for row in rows if row[1] != "-1"]
    refused = sum(row[1] != "200" for row in answered)
    if refused or not answered:
        raise LoadFailed(f"{refused} of {len(answered)} answers were not 200")
    return sorted(int(row[2]) for row in answered)


def percentile(ordered: list[int], share: float) -> float:
    """Return the value that `share` of `ordered` does not exceed (nearest rank)."""
    return float(ordered[max(0, math.ceil(share * len(ordered)) - 1)])
