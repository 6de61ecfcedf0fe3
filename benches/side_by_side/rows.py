"""The measurements beside the workloads: system calls, memory, start-up, latency."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterable, Iterator

from .client import Protocol, ask, ask_h2, connect
from .load import LoadFailed, counted_requests, open_loop, pinned, url, wrk
from .measure import CannotCount, Memory, count_system_calls
from .peers import H2_PEERS, PEERS, TLS_PEERS, Peer, Running
from .processes import Started, tree
from .results import Results
from .several import several_workers
from .workloads import Bench, all_started

COUNTED_CONNECTIONS = (1, 8, 64)
COUNTED_REQUESTS = 10_000
IDLE_CONNECTIONS = 2_000
IDLE_OTHERS = 500  # over TLS, of HTTP/2
IDLE_WARM_UP = 100
IDLE_SECONDS = 2  # what is kept for the next request is given back by then
STARTS = 5
OPEN_LOOP_CONNECTIONS = 64
OPEN_LOOP_SHARE = 0.8
DOWNLOAD_CONNECTIONS = 16
DOWNLOAD_PER_SECOND = 2_000
ROW_ROUNDS = 5

SYSTEM_CALLS = "system calls per request, connections: {}"
IDLE = "KiB per idle keep-alive connection"
IDLE_TLS = "KiB per idle keep-alive connection over TLS"
IDLE_H2 = "KiB per idle connection of HTTP/2"
START = "start to first served request, ms"
FRESH = "memory of a fresh instance, MiB PSS"
OPEN_LOOP_P50 = "open loop at 80 % of nginx's maximum: p50, µs"
OPEN_LOOP_P99 = "open loop at 80 % of nginx's maximum: p99, µs"
ALONE_P99 = "small requests alone: p99, µs"
CONTROL_P99 = "small requests beside a 1 GiB download past the proxy: p99, µs"
BESIDE_P99 = "small requests beside a 1 GiB download: p99, µs"


def system_calls(bench: Bench, names: Iterable[str], rounds: int, seconds: int) -> None:
    """Count system calls; those of opening connections cancel out between a long and a short run."""
    with all_started(bench, [PEERS[name] for name in names]) as running:
        for peer in running:
            try:
                for connections in COUNTED_CONNECTIONS:
                    value = calls_per_request(bench, peer, connections)
                    bench.results.add(SYSTEM_CALLS.format(connections), peer.name, value)
                    bench.tell(f"system calls: {peer.name}, {connections} connections: {value:.2f}")
            except CannotCount as error:
                bench.skip("system calls", str(error))
                return


def calls_per_request(bench: Bench, peer: Running, connections: int) -> float:
    def calls(requests: int) -> int:
        load = counted_requests(url(peer.port, "/small"), requests=requests, connections=connections)
        return count_system_calls(peer.workers, pinned(bench.cpus, load), bench.work)

    calls(connections)  # fills the pool of upstream connections, so that both runs below find it alike
    short = calls(connections)
    return (calls(COUNTED_REQUESTS) - short) / (COUNTED_REQUESTS - connections)


def idle_memory(bench: Bench, names: Iterable[str], rounds: int, seconds: int) -> None:
    """Measure what a connection costs that has had one answer and waits for the next request."""
    allow_descriptors(IDLE_CONNECTIONS + IDLE_WARM_UP + 256)
    kinds = ((IDLE, PEERS, IDLE_CONNECTIONS), (IDLE_TLS, TLS_PEERS, IDLE_OTHERS), (IDLE_H2, H2_PEERS, IDLE_OTHERS))
    for row, peers, count in kinds:
        measure_idle(bench, row, [peers[name] for name in names if name in peers], count)


def measure_idle(bench: Bench, row: str, peers: list[Peer], count: int) -> None:
    with all_started(bench, peers) as running:
        for peer in running:
            with contextlib.ExitStack() as stack:
                open_idle(stack, peer, IDLE_WARM_UP)
                time.sleep(IDLE_SECONDS)
                before = Memory.of(peer.workers).rss_kib
                open_idle(stack, peer, count)
                time.sleep(IDLE_SECONDS)
                value = (Memory.of(peer.workers).rss_kib - before) / count
            bench.results.add(row, peer.name, value)
            bench.tell(f"{row}: {peer.name}: {value:.2f}")


def allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def open_idle(stack: contextlib.ExitStack, peer: Running, count: int) -> list[socket.socket]:
    opened = []
    for _ in range(count):
        connection = stack.enter_context(connect(peer.port, peer.protocol))
        if peer.protocol is Protocol.H2C:
            ask_h2(connection, "/small")
        else:
            ask(connection, "/small")
        opened.append(connection)
    return opened


def start_up(bench: Bench, names: Iterable[str], rounds: int, seconds: int) -> None:
    """Measure the time to the first answer, and the memory of the whole process tree right after it."""
    for _ in range(STARTS):
        for name in names:
            began = time.perf_counter()
            running = bench.start(PEERS[name])
            if not running:
                continue
            try:
                bench.results.add(START, name, (time.perf_counter() - began) * 1e3)
                bench.results.add(FRESH, name, Memory.of(list(tree(running.process.pid))).pss_kib / 1024)
            finally:
                running.stop()
    for name in bench.results.rows.get(START, {}):
        took, size = bench.results.value(START, name), bench.results.value(FRESH, name)
        bench.tell(f"start: {name}: {took:.0f} ms, {size:.1f} MiB")


def latency(bench: Bench, names: Iterable[str], rounds: int, seconds: int) -> None:
    """Measure latency at a fixed rate: 80 % of what nginx can do, the same rate for all."""
    with all_started(bench, [PEERS[name] for name in names]) as running:
        maximum = nginx_maximum(bench, running, seconds)
        if not maximum:
            bench.skip("open loop", "it needs nginx's maximum, and nginx is not among the peers")
            return
        for number in range(1, min(rounds, ROW_ROUNDS) + 1):
            for peer in running:
                load = at_rate(bench, peer, OPEN_LOOP_SHARE * maximum, seconds, OPEN_LOOP_CONNECTIONS)
                if load:
                    bench.results.add(OPEN_LOOP_P50, peer.name, load[0])
                    bench.results.add(OPEN_LOOP_P99, peer.name, load[1])
            bench.tell(f"open loop: round {number}: {last_values(bench.results, OPEN_LOOP_P99)}")


def nginx_maximum(bench: Bench, running: list[Running], seconds: int) -> float | None:
    """Return nginx's requests per second: the best sample of the workload `small`, else measured now."""
    known = [sample.per_second for sample in bench.results.samples("small", "nginx")]
    if known:
        return max(known)
    for peer in running:
        if peer.name == "nginx":
            return wrk(bench.cpus, url(peer.port, "/small"), seconds=seconds).per_second
    return None


def at_rate(
    bench: Bench, peer: Running, per_second: float, seconds: int, connections: int
) -> tuple[float, float] | None:
    """Return p50 and p99 in µs; None if the load failed."""
    try:
        load = open_loop(
            bench.cpus,
            url(peer.port, "/small"),
            per_second=per_second,
            seconds=seconds,
            connections=connections,
            log=bench.work / "requests.tsv",
        )
    except LoadFailed as error:
        bench.fail(f"{peer.name}, open loop", str(error))
        return None
    return load.p50_us, load.p99_us


def last_values(results: Results, row: str) -> str:
    return "  ".join(f"{name} {values[-1]:.0f} µs" for name, values in results.rows.get(row, {}).items())


def beside_download(bench: Bench, names: Iterable[str], rounds: int, seconds: int) -> None:
    """Measure small requests at a modest rate with and without a client that downloads 1 GiB over and over.

    Load generator, origin and downloading client share a CPU. How much of the delay arises there is seen from the
    control, in which the download does not go through the proxy.
    """
    with all_started(bench, [PEERS[name] for name in names]) as running:
        for number in range(1, min(rounds, ROW_ROUNDS) + 1):
            for peer in running:
                for row, port in ((ALONE_P99, None), (CONTROL_P99, bench.origin.port), (BESIDE_P99, peer.port)):
                    with downloading(bench, port) if port else contextlib.nullcontext():
                        load = at_rate(bench, peer, DOWNLOAD_PER_SECOND, seconds, DOWNLOAD_CONNECTIONS)
                    if load:
                        bench.results.add(row, peer.name, load[1])
            bench.tell(f"beside a download: round {number}: {last_values(bench.results, BESIDE_P99)}")


@contextlib.contextmanager
def downloading(bench: Bench, port: int) -> Iterator[None]:
    """Download 1 GiB again and again on one connection."""
    command = ["curl", "-s", "-o", "/dev/null", url(port, "/1g?[1-1000000]")]
    client = Started(command, cpu=bench.cpus.load, log=bench.work / "curl.log")
    try:
        yield
        if not client.is_running():
            bench.fail(f"download from port {port}", client.last_line())
    finally:
        client.stop()


ROWS = {
    "syscalls": system_calls,
    "idle": idle_memory,
    "start": start_up,
    "latency": latency,
    "download": beside_download,
    "workers": several_workers,
}
