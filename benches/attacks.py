"""What attacks over HTTP/2 cost the proxy and its other clients: `python benches/attacks.py`.

One worker on a CPU of its own; the attacker, an origin (nginx) and a well-behaved client (h2load, 1,000 requests a
second at a fixed rate) share the other. An attack begins anew ten times a second, each time over another connection;
connections that the proxy does not end stay open, four of them at most. Prints a table: how much memory grows for each
connection that is open, CPU of the worker for one attack, p99 of the client without and with it. The last column is the
control: that of a client that asks the origin itself, whose CPU the attacker and the origin's answers to him use. Exits
with 1 if a connection costs 2 MiB, or p99 grows twice as much as there. `--only WORD,…` runs the attacks whose names
have one of them.
"""

import argparse
import contextlib
import os
import select
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "shared"))

from http2_attacks import ATTACKS, recorded

from benches.side_by_side.load import OpenLoad, open_loop, url
from benches.side_by_side.measure import CpuTime, Memory
from benches.side_by_side.origin import Origin
from benches.side_by_side.peers import PEERS, Running, start
from benches.side_by_side.processes import Cpus

GROWTH_MOST_KIB = 2048
P99_MOST = 2.0
ROUNDS = 3  # of without and with, in turn; the median of each counts
SECONDS = 1
PER_SECOND = 1000
CLIENTS = 8
PAUSE_S = 0.1
HELD_MOST = 4


class Attacker:
    """Sends the same bytes over one connection after the other until the block ends."""

    def __init__(self, port: int, data: bytes, cpu: int):
        self.port, self.data, self.cpu = port, data, cpu
        self.n_attacks = 0
        self.held: list[socket.socket] = []
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> "Attacker":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.thread.join()

    def run(self) -> None:
        os.sched_setaffinity(0, {self.cpu})
        while not self.is_over.is_set():
            self.attack()
            self.is_over.wait(PAUSE_S)
        for sock in self.held:
            sock.close()

    def attack(self) -> None:
        sock = socket.create_connection(("127.0.0.1", self.port), 10)
        self.n_attacks += 1
        with contextlib.suppress(OSError):
            sock.sendall(self.data)
        self.held.append(sock)
        for held in select.select(self.held, [], [], 0)[0]:
            if is_ended(held):
                self.held.remove(held)
                held.close()
        if len(self.held) > HELD_MOST:
            self.held.pop(0).close()


def is_ended(sock: socket.socket) -> bool:
    """Take a little of what came, as a client that stalls does; whether the proxy has ended the connection."""
    try:
        return not sock.recv(4096)
    except OSError:
        return True


@dataclass
class Outcome:
    """What an attack did. Memory in KiB, CPU in ms for each attack, p99 in µs."""

    name: str
    kib: float
    cpu_ms: float
    p99_without: float
    p99_with: float
    past_ratio: float  # of the same two, past the proxy

    @property
    def ratio(self) -> float:
        return self.p99_with / self.p99_without

    @property
    def is_bounded(self) -> bool:
        return self.kib < GROWTH_MOST_KIB and self.ratio < P99_MOST * max(1.0, self.past_ratio)


def ask(port: int, cpus: Cpus, work: Path) -> OpenLoad:
    target = url(port, "/small")
    log = work / "requests.tsv"
    return open_loop(cpus, target, per_second=PER_SECOND, seconds=SECONDS, connections=CLIENTS, log=log)


def measure(name: str, peer: Running, origin: Origin, cpus: Cpus, work: Path) -> Outcome:
    """Run one attack in rounds without and with it."""
    data = recorded(name)
    with Attacker(peer.port, data, cpus.load):  # pools and free lists have their size from then on
        time.sleep(3 * PAUSE_S)
    time.sleep(PAUSE_S)
    before = Memory.of(peer.workers).rss_kib
    cost_kib, cpu_ns, n_attacks = 0.0, 0, 0
    without, attacked = [], []
    past_without, past_attacked = [], []
    for _ in range(ROUNDS):
        cpu = CpuTime.of(peer.workers)
        without.append(ask(peer.port, cpus, work).p99_us)
        idle = CpuTime.of(peer.workers) - cpu
        cpu = CpuTime.of(peer.workers)
        with Attacker(peer.port, data, cpus.load) as attacker:
            attacked.append(ask(peer.port, cpus, work).p99_us)
            grown = Memory.of(peer.workers).rss_kib - before
            cost_kib = max(cost_kib, grown / max(1, len(attacker.held)))
        cpu_ns += (CpuTime.of(peer.workers) - cpu).total_ns - idle.total_ns
        n_attacks += attacker.n_attacks
        past_without.append(ask(origin.port, cpus, work).p99_us)
        with Attacker(peer.port, data, cpus.load):
            past_attacked.append(ask(origin.port, cpus, work).p99_us)
    p99 = [sorted(values)[ROUNDS // 2] for values in (without, attacked, past_without, past_attacked)]
    return Outcome(name, cost_kib, max(0, cpu_ns) / 1e6 / n_attacks, p99[0], p99[1], p99[3] / p99[2])


def row(outcome: Outcome) -> str:
    p99 = f"{outcome.p99_without:.0f} | {outcome.p99_with:.0f} | {outcome.ratio:.2f} | {outcome.past_ratio:.2f}"
    return f"| {outcome.name.replace('_', ' ')} | {outcome.kib:.0f} | {outcome.cpu_ms:.1f} | {p99} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what attacks over HTTP/2 cost.")
    parser.add_argument("--only", default="", metavar="WORD,…", help="attacks whose names have one of them")
    words = parser.parse_args().only.split(",")
    wanted = [name for name in ATTACKS if any(word in name for word in words)]
    cpus = Cpus.choose()
    os.sched_setaffinity(0, {cpus.load})
    is_bounded = True
    with tempfile.TemporaryDirectory(prefix="attacks-") as directory, contextlib.ExitStack() as stack:
        work = Path(directory)
        origin = Origin.start(work, cpus, serves_gateway=False)
        stack.callback(origin.stop)
        peer = start(PEERS["pingora"], work, origin, cpus.proxy)
        stack.callback(peer.stop)
        ask(peer.port, cpus, work)
        print("| attack | KiB for a connection | CPU ms for one | p99 µs without | with | ratio | past the proxy |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for name in wanted:
            outcome = measure(name, peer, origin, cpus, work)
            is_bounded = is_bounded and outcome.is_bounded
            print(row(outcome), flush=True)
    return 0 if is_bounded else 1


if __name__ == "__main__":
    sys.exit(main())
