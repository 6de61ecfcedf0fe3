"""What `pingora status` shows of an instance."""

import os
import time
from typing import TYPE_CHECKING, Any

import pingora
from pingora.supervisor.board import AGENT, Board, now_ms
from pingora.supervisor.generation import Generation
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
        "listeners": supervisor.sockets.names(),
        "generations": [
            describe_generation(generation, supervisor) for generation in supervisor.generations if generation.is_loaded
        ],
    }


def describe_generation(generation: Generation, supervisor: "Supervisor") -> dict[str, Any]:
    """Give the state of a generation."""
    is_present = generation is supervisor.generation
    return {
        "number": generation.number,
        "pid": generation.pid,
        "state": "serving" if is_present else "draining",
        "workers": [describe_worker(worker, supervisor.board if is_present else None) for worker in generation.workers],
    }


def describe_worker(worker: Worker, board: Board | None) -> dict[str, Any]:
    """Give the state of a worker; without a board it drains and gives no signs of life."""
    described: dict[str, Any] = {
        "number": worker.number if worker.number != AGENT else "agent",
        "pid": worker.pid,
        "state": "draining" if board is None else "serving" if worker.is_serving else "starting",
        "uptime": round(time.monotonic() - worker.started_at, 1),
    }
    if board is not None and worker.is_serving and worker.number != AGENT:
        described["last_beat_ms"] = now_ms() - board.last_beat(worker.number)
        described.update(board.counts(worker.number))
    return described


def render(status: dict[str, Any]) -> str:
    """Write the state for people."""
    lines = [
        f"pingora {status['version']}, pid {status['pid']}, {status['state']} for {status['uptime']:.0f} s, "
        f"{status['reloads']} reloads",
        *(f"  listens on {name}" for name in status["listeners"]),
    ]
    for generation in status["generations"]:
        lines.append(f"  generation {generation['number']}, {generation['state']}")
        for worker in generation["workers"]:
            counts = ", ".join(f"{worker[name]} {name}" for name in ("connections", "requests") if name in worker)
            who = "agent" if worker["number"] == "agent" else f"worker {worker['number']}"
            line = f"    {who}, pid {worker['pid']}, {worker['state']} for {worker['uptime']:.0f} s"
            lines.append(line + (f", {counts}" if counts else ""))
    return "\n".join(lines)
