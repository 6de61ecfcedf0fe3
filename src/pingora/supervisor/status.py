"""What `pingora status` shows of an instance."""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pingora
from pingora.supervisor.board import AGENT, now_ms
from pingora.supervisor.generation import Generation
from pingora.supervisor.statistics import Statistics
from pingora.supervisor.worker import Worker

if TYPE_CHECKING:
    from pingora.supervisor.instance import Supervisor


def describe_instance(supervisor: "Supervisor") -> dict[str, Any]:
    """Give the state of an instance as JSON has it; times in seconds."""
    return {
        "pid": os.getpid(),
        "version": pingora.__version__,
        "state": supervisor.state,
        "uptime": round(time.time() - supervisor.started_at, 1),
        "reloads": supervisor.reloads.n_done,
        "counters": sums(supervisor.statistics),
        "listeners": supervisor.sockets.names(),
        "draining": supervisor.handover.elders.pids,
        "generations": [
            describe_generation(generation, supervisor) for generation in supervisor.generations if generation.is_loaded
        ],
    }


def describe_generation(generation: Generation, supervisor: "Supervisor") -> dict[str, Any]:
    """Give the state of a generation."""
    is_present = generation is supervisor.generation
    state = "serving" if is_present else "draining" if generation.is_retired else "starting"
    return {
        "number": generation.number,
        "pid": generation.pid,
        "state": state,
        "workers": [describe_worker(worker, supervisor, state == "draining") for worker in generation.workers],
    }


def describe_worker(worker: Worker, supervisor: "Supervisor", is_draining: bool) -> dict[str, Any]:
    """Give the state of a worker; one that drains, by itself or with its generation, gives no signs of life."""
    is_draining = is_draining or worker.is_leaving
    state = "draining" if is_draining else "serving" if worker.is_serving else "starting"
    described: dict[str, Any] = {
        "number": worker.number if worker.number != AGENT else "agent",
        "pid": worker.pid,
        "state": state,
        "uptime": round(time.monotonic() - worker.started_at, 1),
    }
    if worker.number != AGENT and worker.is_ready:
        if state == "serving":
            described["last_beat_ms"] = now_ms() - supervisor.board.last_beat(worker.number)
        counted = worker.own(supervisor.statistics[0].counters_of(worker.block))
        described["requests"] = counted.get("pingora_requests_total", 0)
        described["active"] = counted.get("pingora_requests_active", 0)
        described["connections"] = counted.get("pingora_connections_open", 0)
        described["counters"] = {name: value for name, value in counted.items() if value}
    return described


def sums(statistics: Sequence[Statistics]) -> dict[str, int]:
    """Add up what all processes have counted, also those that have ended."""
    total: dict[str, int] = {}
    for one in statistics:
        for name, value in one.counters().items():
            total[name] = total.get(name, 0) + value
    return dict(sorted(total.items()))


def render(status: dict[str, Any]) -> str:
    """Write the state for people."""
    lines = [
        f"pingora {status['version']}, pid {status['pid']}, {status['state']} for {status['uptime']:.0f} s, "
        f"{status['reloads']} reloads",
        *(f"  listens on {name}" for name in status["listeners"]),
    ]
    lines += [f"  supervisor {pid}, from before an upgrade, drains" for pid in status["draining"]]
    for generation in status["generations"]:
        lines.append(f"  generation {generation['number']}, {generation['state']}")
        for worker in generation["workers"]:
            counts = ", ".join(f"{worker[name]} {name}" for name in ("connections", "requests") if name in worker)
            who = "agent" if worker["number"] == "agent" else f"worker {worker['number']}"
            line = f"    {who}, pid {worker['pid']}, {worker['state']} for {worker['uptime']:.0f} s"
            lines.append(line + (f", {counts}" if counts else ""))
    return "\n".join(lines)
