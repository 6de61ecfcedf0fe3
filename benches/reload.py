"""What clients lose while the processes change: `make bench-reload` (ARGS="--scale 0.1" for a tenth).

Constant load: kept and new connections, uploads and downloads of 10 s, tunnels that echo. Prints a row per scenario:
what was lost, the longest wait, and the processes, descriptors and memory before and after. Exits with 1 if a bound
is broken. `--only WORD` runs the scenarios whose name has it.
"""

import argparse
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "shared"))

from conversations import wait_until
from instances import WORKERS, Instance
from load import EchoOrigin, Load

from pingora.supervisor.elders import ELDERS_MOST

CONNECTIONS_MOST = 16  # of one worker, which its death may cost
TAKEN_AGAIN_S = 0.2  # a dead worker's place
WAIT_S = 0.3  # of a new connection while workers die or are stuck
ORPHANS_S = 5.0  # that workers may listen without a supervisor


@dataclass
class Report:
    """What a scenario may cost, and what it says beside the counts of its clients."""

    lost: int = 0
    wait_s: float | None = None
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def note(self, text, is_ok=True):
        """Say something; `is_ok` False breaks a bound."""
        self.notes.append(text)
        if not is_ok:
            self.broken.append(text)


def times(number, scale):
    return range(max(int(number * scale), 1))


def configuration_reloads(instance, load, scale, report):
    """Every second one makes another hook object."""
    for number in times(100, scale):
        instance.configure(limits=64 + number, hook=number // 2)
        assert instance.ask("reload")["text"].endswith("has taken over in place")
        load.wait_for_answers(50)


def code_reloads(instance, load, scale, report):
    for _ in times(20, scale):
        # Beyond four draining generations the oldest is cut, as documented: its streams last 10 s.
        wait_until(lambda: len(instance.status["generations"]) <= 4)
        instance.ask("reload")
        load.wait_for_answers(200)


def upgrades(instance, load, scale, report):
    for _ in times(20, scale):
        wait_until(lambda: len(instance.status["draining"]) < ELDERS_MOST)  # as with generations
        instance.ask("upgrade")
        load.wait_for_answers(200)


def scaling(instance, load, scale, report):
    """More and fewer workers, each number once per round."""
    for _ in times(10, scale):
        for number in (8, 2, 6, WORKERS):
            instance.ask("scale", workers=number)
            assert len(instance.workers) == number
            load.wait_for_answers(100)


def kill(instance, victim):
    """Kill a worker; give the seconds until its place was taken again."""
    os.kill(victim, signal.SIGKILL)
    killed_at = time.monotonic()
    wait_until(lambda: victim not in (found := instance.workers) and len(found) == WORKERS)
    return time.monotonic() - killed_at


def killed_workers(instance, load, scale, report):
    """One worker every second for 30 s."""
    longest, killed = 0.0, times(30, scale)
    for number in killed:
        longest = max(longest, took := kill(instance, instance.workers[number % WORKERS]))
        time.sleep(max(1.0 - took, 0.0))
    report.lost = len(killed) * CONNECTIONS_MOST
    report.wait_s = WAIT_S
    report.note(f"a place taken again within {longest * 1000:.0f} ms", longest <= TAKEN_AGAIN_S)


def stuck_worker(instance, load, scale, report):
    """A worker that blocks for 10 s and is replaced, and others that die meanwhile; clients are new ones."""
    before = instance.workers
    with instance.connect("/block") as stuck:
        stuck.settimeout(60)
        blocked_at = time.monotonic()
        time.sleep(1.0)  # none of the others may be chosen instead: it gives no sign of life now
        ages = {one["pid"]: one["last_beat_ms"] for one in instance.described_workers() if "last_beat_ms" in one}
        blocked = max(ages, key=ages.get)
        for number in times(5, scale):
            others = [pid for pid in instance.workers if pid != blocked]
            took = kill(instance, others[number % len(others)])
            report.note(f"{took * 1000:.0f} ms", took <= TAKEN_AGAIN_S)
            report.lost += CONNECTIONS_MOST
        with contextlib.suppress(OSError):
            assert stuck.recv(1) == b""
    wait_until(lambda: blocked not in (found := instance.workers) and len(found) == WORKERS)
    report.note(f"the stuck one replaced after {time.monotonic() - blocked_at:.1f} s")
    report.wait_s = WAIT_S
    assert set(before) != set(instance.workers)


def killed_agents(instance, load, scale, report):
    """No worker may notice; what they have counted only grows."""
    counted = {}
    killed = times(100, scale)
    for _ in killed:
        agent = wait_until(lambda: instance.agent)
        os.kill(agent, signal.SIGKILL)
        wait_until(lambda agent=agent: instance.agent not in (None, agent))
        for worker in (one for one in instance.described_workers() if one["number"] != "agent"):
            is_less = worker["requests"] < counted.get(worker["pid"], 0)
            report.note("a counter went back", is_ok=False) if is_less else None
            counted[worker["pid"]] = worker["requests"]
    report.note(f"{len(killed)} agents")


SCENARIOS = {
    "configuration reloads": (configuration_reloads, {"streams": 2, "stream_s": 10.0, "tunnels": 4}),
    "reloads of the code": (code_reloads, {"streams": 2, "stream_s": 10.0, "tunnels": 4}),
    "upgrades": (upgrades, {"streams": 2, "stream_s": 10.0, "tunnels": 4}),
    "more and fewer workers": (scaling, {"streams": 2, "stream_s": 10.0, "tunnels": 4}),
    "kill -9 of workers": (killed_workers, {"kept": 8, "new": 4}),
    "a stuck worker, kill -9 of others": (stuck_worker, {"kept": 0, "new": 8}),
    "kill -9 of the agent": (killed_agents, {"streams": 2, "stream_s": 10.0, "tunnels": 4}),
}


def run(name, scale):
    """Run a scenario on an instance of its own; return whether all bounds held."""
    scenario, load_options = SCENARIOS[name]
    origin = EchoOrigin()
    report = Report()
    with tempfile.TemporaryDirectory() as directory:
        instance = Instance(Path(directory), origin.address, is_configured=scenario is configuration_reloads)
        with Load(instance.port) as load:  # what is made with the first requests is no growth
            load.wait_for_answers(3000)
        if scenario is configuration_reloads:
            instance.ask("reload")  # the first one makes memory private that was shared since the fork
        if scenario is upgrades:  # what the supervisor before has counted is read beside what the present one counts
            instance.ask("upgrade")
        if scenario is scaling:
            for number in (8, WORKERS):  # listening sockets of a slot stay open
                instance.ask("scale", workers=number)
        before = instance.level()
        with Load(instance.port, **load_options) as load:
            scenario(instance, load, scale, report)
        if scenario is upgrades:  # what those counted that drained meanwhile, the next one takes over
            wait_until(lambda: not instance.status["draining"])
            instance.ask("upgrade")
        after = instance.level(before)
        instance.end()
    origin.close()
    outcome = load.outcome
    report.note(f"{before} before, {after} after", after.is_like(before))
    if outcome.refused or outcome.lost > report.lost:
        report.broken.append(f"lost: {outcome.reasons[:5]}")
    if report.wait_s is not None and outcome.longest_s > report.wait_s:
        report.broken.append(f"a wait of more than {report.wait_s} s")
    print(
        f"{name}: {outcome.answered} answered, {outcome.echoed} echoed, {outcome.unanswered} unanswered, "
        f"{outcome.cut} cut, {outcome.refused} refused, longest wait {outcome.longest_s * 1000:.0f} ms; "
        f"{'; '.join(report.notes)}: {'BROKEN: ' + str(report.broken) if report.broken else 'ok'}",
        flush=True,
    )
    return not report.broken


def killed_supervisor():
    """Nobody listens any more after a moment, and what is in flight ends as it should; return whether that held."""
    origin = EchoOrigin()
    with tempfile.TemporaryDirectory() as directory:
        instance = Instance(Path(directory), origin.address)
        pids = instance.pids()
        clients = [instance.connect("/download") for _ in range(8)]
        received = [client.recv(100) for client in clients]
        instance.kill()
        killed_at = time.monotonic()

        def refuses():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", instance.port)) != 0

        wait_until(refuses)
        refused_s = time.monotonic() - killed_at
        n_cut = 0
        for client, answer in zip(clients, received, strict=True):
            while more := client.recv(65536):
                answer += more
            n_cut += not answer.endswith(b"\r\n0\r\n\r\n")
            client.close()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids if pid != instance.pid))
    origin.close()
    is_ok = refused_s <= ORPHANS_S and not n_cut
    print(
        f"kill -9 of the supervisor: nobody listens after {refused_s * 1000:.0f} ms, "
        f"{n_cut} of {len(clients)} downloads cut, no process left: {'ok' if is_ok else 'BROKEN'}",
        flush=True,
    )
    return is_ok


def main():
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of events")
    parser.add_argument("--only", default="", metavar="WORD", help="scenarios whose name has it")
    options = parser.parse_args()
    chosen = [name for name in SCENARIOS if options.only in name]
    held = [run(name, options.scale) for name in chosen]
    if options.only in "kill -9 of the supervisor":
        held.append(killed_supervisor())
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
