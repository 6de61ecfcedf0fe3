"""The workloads, and the interleaved rounds in which the peers meet them."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import peers
from .client import NotServed, Protocol, ask_once
from .load import Load, LoadFailed, h2load, url, wrk
from .measure import CpuTime
from .origin import Origin
from .peers import Peer, Running
from .processes import Cpus
from .results import Results, Rounds, Sample

WARM_UP_SECONDS = 1
HOOK_PEERS = ("relay", "relay-splice", "nginx", "haproxy", "pingora-rs", "pingora")


@dataclass(frozen=True)
class Workload:
    """A kind of request. `variants` replace peers by name; `only` leaves out peers it says nothing about."""

    name: str
    path: str
    headers: tuple[str, ...] = ()
    variants: Mapping[str, Peer] = field(default_factory=dict)
    only: tuple[str, ...] = tuple(peers.PEERS)
    title: str = ""

    def peer(self, name: str) -> Peer:
        return self.variants.get(name, peers.PEERS[name])


def over(
    variants: Mapping[str, Peer], name: str, path: str, headers: tuple[str, ...] = (), title: str = ""
) -> Workload:
    """Make a workload over another protocol, for the peers that have it."""
    return Workload(name, path, headers, variants, only=tuple(variants), title=title)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("small", "/small", title="small answers (100 bytes)"),
        Workload("64k", "/64k", title="64 KiB answers"),
        Workload("1m", "/1m", title="1 MiB answers"),
        Workload("nokeepalive", "/small", ("Connection: close",), title="small answers, one request per connection"),
        Workload(
            "hooks",
            "/small",
            variants={"pingora": peers.PINGORA_HOOKS},
            only=HOOK_PEERS,
            title="small answers, two Python hooks",
        ),
        Workload(
            "gateway",
            "/small",
            peers.GATEWAY_HEADERS,
            variants={"pingora": peers.PINGORA_GATEWAY},
            only=HOOK_PEERS,
            title="small answers, examples/gateway.py",
        ),
        over(peers.TLS_PEERS, "tls", "/small", title="small answers over TLS"),
        over(peers.TLS_PEERS, "tls64k", "/64k", title="64 KiB answers over TLS"),
        over(peers.TLS_PEERS, "handshakes", "/small", ("Connection: close",), "small answers, one TLS handshake each"),
        over(peers.H2_PEERS, "h2", "/small", title="small answers over HTTP/2, 16 streams a connection"),
        over(peers.H2_PEERS, "h264k", "/64k", title="64 KiB answers over HTTP/2, 16 streams a connection"),
        over(peers.TO_H2C_PEERS, "toh2c", "/small", title="small answers, HTTP/1.1 to an origin of HTTP/2"),
        over(peers.TO_H2C_PEERS, "toh2c64k", "/64k", title="64 KiB answers, HTTP/1.1 to an origin of HTTP/2"),
        over(peers.H2_TO_H2C_PEERS, "h2toh2c", "/small", title="small answers, HTTP/2 to an origin of HTTP/2"),
    )
}


@dataclass
class Bench:
    """What every measurement needs: where, on which CPUs, against which origin, and where results go."""

    work: Path
    cpus: Cpus
    origin: Origin
    results: Results
    tell: Callable[[str], None]

    def start(self, peer: Peer) -> Running | None:
        """Start a peer; say and record why if it cannot be measured."""
        try:
            return peers.start(peer, self.work, self.origin, self.cpus.proxy)
        except NotServed as error:
            self.skip(str(peer), str(error))
            return None

    def skip(self, what: str, why: str) -> None:
        self.tell(f"{what} skipped: {why}")
        self.results.skipped[what] = why

    def fail(self, what: str, why: str) -> None:
        self.tell(f"{what} FAILED: {why}")
        self.results.failures.append(f"{what}: {why}")


@contextlib.contextmanager
def all_started(bench: Bench, wanted: Iterable[Peer]) -> Iterator[list[Running]]:
    """Start the peers, leave out those that cannot, and stop all of them at the end."""
    with contextlib.ExitStack() as stack:
        running: list[Running] = []
        for peer in wanted:
            started = bench.start(peer)
            if started:
                stack.callback(started.stop)
                running.append(started)
        yield running


def run_workload(bench: Bench, workload: Workload, names: Iterable[str], rounds: int, seconds: int) -> None:
    """Measure one workload: A B C, A B C, … with one sample per peer and round."""
    wanted = [workload.peer(name) for name in names if name in workload.only]
    with all_started(bench, wanted) as running:
        served = [peer for peer in running if is_served(bench, peer, workload)]
        samples: dict[str, Rounds] = {peer.name: [] for peer in served}
        bench.results.workloads[workload.name] = samples
        for peer in served:
            with contextlib.suppress(LoadFailed):
                run_load(bench, peer, workload, WARM_UP_SECONDS)
        for number in range(1, rounds + 1):
            for peer in served:
                samples[peer.name].append(sample(bench, peer, workload, seconds))
            bench.tell(f"{workload.name}: round {number}/{rounds}: {round_line(samples)}")


def is_served(bench: Bench, peer: Running, workload: Workload) -> bool:
    """Compare one answer through the peer with the origin's own."""
    what = f"{peer.name}, {workload.name}"
    try:
        direct = ask_once(bench.origin.port, workload.path)
        through = ask_once(peer.port, workload.path, workload.headers, peer.protocol)
    except (NotServed, OSError) as error:
        bench.fail(what, str(error))
        return False
    if through != direct:
        bench.fail(what, f"answered {through.status} with {len(through.body)} bytes, not the origin's answer")
        return False
    return True


def run_load(bench: Bench, peer: Running, workload: Workload, seconds: int) -> Load:
    target = url(peer.port, workload.path, peer.protocol)
    if peer.protocol is Protocol.H2C:
        return h2load(bench.cpus, target, seconds=seconds, log=bench.work / "h2load.log", headers=workload.headers)
    return wrk(bench.cpus, target, seconds=seconds, headers=workload.headers)


def sample(bench: Bench, peer: Running, workload: Workload, seconds: int) -> Sample | None:
    parents = [peer.parent] if peer.parent else []
    before, parent_before = CpuTime.of(peer.workers), CpuTime.of(parents)
    try:
        load = run_load(bench, peer, workload, seconds)
    except LoadFailed as error:
        bench.fail(f"{peer.name}, {workload.name}", str(error))
        return None
    if peer.is_changed():
        bench.fail(f"{peer.name}, {workload.name}", "a worker process died or was replaced during the round")
        return None
    return Sample.of(load, CpuTime.of(peer.workers) - before, CpuTime.of(parents) - parent_before)


def round_line(samples: dict[str, Rounds]) -> str:
    """Return the last round in short: CPU per request of each peer."""
    last = {name: rounds[-1] for name, rounds in samples.items()}
    return "  ".join(f"{name} {s.cpu_us_per_request:.1f} µs" if s else f"{name} -" for name, s in last.items())
