"""What clients lose while the processes change: `make bench-reload` (ARGS="--scale 0.1" for a tenth).

Constant load: kept and new connections, uploads and downloads of 10 s, tunnels that echo. Prints a row per scenario:
what was lost and the longest wait. Exits with 1 if a bound is broken.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "shared"))

from conversations import wait_until
from load import EchoOrigin, Load
from running import TCP_SOURCE, Running

from pingora.supervisor.control import ask

WORKERS = 4
CONNECTIONS_MOST = 16  # of one worker, which its death may cost


@dataclass
class Instance:
    """A `pingora run` of its own, with its load."""

    running: Running
    control: Path

    def ask(self, command, **fields):
        return ask(self.control, command, **fields)

    @property
    def workers(self):
        """The process ids of the workers that serve."""
        status = self.ask("status")["status"]
        return [
            worker["pid"]
            for generation in status["generations"]
            for worker in generation["workers"]
            if worker["state"] == "serving" and worker["number"] != "agent"
        ]


def start(directory, origin, *arguments):
    """Start an instance and wait until all its workers serve."""
    control = Path(directory) / "control.sock"
    source = TCP_SOURCE.replace("127.0.0.1:1", origin.address, 1).replace("sleep(0.05)", "sleep(0.5)")
    running = Running(Path(directory), source, ["--control", str(control), "--workers", str(WORKERS), *arguments])
    instance = Instance(running, control)
    wait_until(lambda: control.exists() and len(instance.workers) == WORKERS)
    running.port = int(instance.ask("status")["status"]["listeners"][0].rpartition(":")[2])
    return instance


def reloads(instance, load, scale):
    for _ in range(max(int(20 * scale), 1)):
        # Beyond four draining generations the oldest is cut, as documented: its streams last 10 s.
        wait_until(lambda: len(instance.ask("status")["status"]["generations"]) <= 4)
        instance.ask("reload")
        load.wait_for_answers(200)
    return 0


def upgrades(instance, load, scale):
    for _ in range(max(int(20 * scale), 1)):
        instance.ask("upgrade")
        load.wait_for_answers(200)
    return 0


def killed_workers(instance, load, scale):
    """One worker every second for 30 s; prints how long its place was empty."""
    n_killed = max(int(30 * scale), 1)
    longest = 0.0
    for number in range(n_killed):
        wait_until(lambda: len(instance.workers) == WORKERS)
        victim = instance.workers[number % WORKERS]
        os.kill(victim, signal.SIGKILL)
        killed_at = time.monotonic()
        wait_until(lambda victim=victim: victim not in (found := instance.workers) and len(found) == WORKERS)
        longest = max(longest, time.monotonic() - killed_at)
        time.sleep(max(1.0 - (time.monotonic() - killed_at), 0.0))
    print(f"  {n_killed} workers killed, the longest until its place was taken again: {longest * 1000:.0f} ms")
    return n_killed * CONNECTIONS_MOST


SCENARIOS = {
    "reloads of the code": (reloads, {"streams": 2, "stream_s": 10.0, "tunnels": 4}),
    "upgrades": (upgrades, {"streams": 2, "stream_s": 10.0, "tunnels": 4}),
    "kill -9 of workers": (killed_workers, {"kept": 8, "new": 4}),
}


def main():
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of events")
    scale = parser.parse_args().scale
    is_broken = False
    for name, (scenario, load_options) in SCENARIOS.items():
        origin = EchoOrigin()
        with tempfile.TemporaryDirectory() as directory:
            instance = start(directory, origin, "--drain", "60")
            with Load(instance.running.port, **load_options) as load:
                allowed = scenario(instance, load, scale)
            instance.ask("stop", now=True)
            instance.running.process.wait()
        outcome = load.outcome
        is_ok = outcome.refused == 0 and outcome.lost <= allowed
        is_broken = is_broken or not is_ok
        print(
            f"{name}: {outcome.answered} answered, {outcome.echoed} echoed, {outcome.unanswered} unanswered, "
            f"{outcome.cut} cut, {outcome.refused} refused, longest wait {outcome.longest_s * 1000:.0f} ms, "
            f"{'ok' if is_ok else 'BROKEN: ' + str(outcome.reasons[:5])}",
            flush=True,
        )
    sys.exit(is_broken)


if __name__ == "__main__":
    main()
