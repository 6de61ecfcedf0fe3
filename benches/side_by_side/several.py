"""What several workers do together: how load spreads among them, and how many upstream connections they open."""

import contextlib
from collections.abc import Iterable, Iterator

from . import peers
from .client import NotServed
from .load import LoadFailed, url, wrk
from .measure import CpuTime
from .origin import Origin
from .peers import Peer, Running
from .workloads import Bench

CLIENTS = 1_000
UPSTREAMS = 50
ROUNDS = 5

OPENED = f"new connections to {UPSTREAMS} upstreams, {CLIENTS} clients, workers: {{}}"
SPREAD = f"busiest ÷ idlest of 2 workers, {CLIENTS} clients"
SPEEDUP = "requests per second, 2 workers ÷ 1"


def several_workers(bench: Bench, names: Iterable[str], rounds: int, seconds: int) -> None:
    if "pingora" not in names:
        bench.skip("several workers", "pingora is not among the peers")
        return
    try:
        for number in range(1, min(rounds, ROUNDS) + 1):
            for workers in (1, 4):
                opened(bench, workers, number, seconds)
            spread(bench, seconds)
            speedup(bench, seconds)
    except (NotServed, LoadFailed) as error:
        bench.fail("several workers", str(error))


def opened(bench: Bench, workers: int, number: int, seconds: int) -> None:
    """Count the upstream connections that a fresh proxy opens for clients which come all at once and stay."""
    work = bench.work / f"origin-{workers}-{number}"
    work.mkdir()
    origin = Origin.start(work, bench.cpus, serves_gateway=False, more=UPSTREAMS)
    try:
        targets = [part for port in origin.more for part in ("--to", f"http://127.0.0.1:{port}")]
        with served(bench, workers, *targets) as running:
            before = origin.accepted()
            load(bench, running, seconds)
            value = origin.accepted() - before - 1
    finally:
        origin.stop()
    bench.results.add(OPENED.format(workers), "pingora", value)
    bench.tell(f"upstream connections: {workers} workers: {value}")


def spread(bench: Bench, seconds: int) -> None:
    """Compare the CPU time of two workers that share the load: each request costs the same."""
    with served(bench, 2, "--to", f"http://127.0.0.1:{bench.origin.port}") as running:
        before = [CpuTime.of([pid]) for pid in running.workers]
        load(bench, running, seconds)
        used = [(CpuTime.of([pid]) - start).total_ns for pid, start in zip(running.workers, before, strict=True)]
    idlest, busiest = sorted(used)[-2:]  # besides them there is the process that they were forked from, which waits
    bench.results.add(SPREAD, "pingora", busiest / idlest)
    bench.tell(f"spread: {busiest / idlest:.2f}")


def speedup(bench: Bench, seconds: int) -> None:
    if not bench.cpus.spare:
        bench.skip("two workers beside one", "it takes three CPUs: two for the workers, one for load and origin")
        return
    per_second = []
    for workers, cpu in ((1, str(bench.cpus.proxy)), (2, f"{bench.cpus.proxy},{bench.cpus.spare[-1]}")):
        with served(bench, workers, "--to", f"http://127.0.0.1:{bench.origin.port}", cpu=cpu) as running:
            per_second.append(load(bench, running, seconds))
    bench.results.add(SPEEDUP, "pingora", per_second[1] / per_second[0])
    bench.tell(f"two workers beside one: {per_second[1] / per_second[0]:.2f}")


def load(bench: Bench, running: Running, seconds: int) -> float:
    """Return the requests per second of all clients."""
    return wrk(bench.cpus, url(running.port, "/small"), seconds=seconds, connections=CLIENTS).per_second


@contextlib.contextmanager
def served(bench: Bench, workers: int, *arguments: str, cpu: str | None = None) -> Iterator[Running]:
    prepare = peers.pingora("--from", "127.0.0.1:{port}", *arguments, workers=workers)
    peer = Peer("pingora", prepare, env=peers.pingora_env)
    running = peers.start(peer, bench.work, bench.origin, cpu or bench.cpus.proxy)
    try:
        yield running
    finally:
        running.stop()
