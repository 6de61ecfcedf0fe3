"""What is shown at the address of `metrics`: all metrics, in the format that is asked for."""

import contextlib
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pingora
from pingora import metrics
from pingora.observe.answering import Answer, Question
from pingora.observe.collected import Collected
from pingora.observe.exposition import OPENMETRICS, PROMETHEUS, render, wants_openmetrics
from pingora.observe.families import schema

if TYPE_CHECKING:
    from pingora.serving import Serving

PAGE = b"Metrics are at /metrics\n"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def answer_metrics(collect: Callable[[], Collected], question: Question) -> Answer:
    """Answer GET /metrics."""
    if question.path == "/":
        return Answer(200, PAGE)
    if question.path != "/metrics":
        return Answer(404, PAGE)
    is_openmetrics = wants_openmetrics(question.fields.get("accept", ""))
    text = render(collect(), is_openmetrics)
    kind = OPENMETRICS if is_openmetrics else PROMETHEUS
    return Answer(200, text.encode(errors="replace"), kind, {"Vary": "Accept"})


def add_build(collected: Collected) -> None:
    """Add which versions run."""
    collected.add("pingora_build_info", 1, (pingora.__version__, platform.python_version()))


def add_process(collected: Collected, pid: int, name: str) -> None:
    """Add what the kernel says of a process; nothing of one that has ended."""
    directory = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError, ValueError, IndexError):
        # Behind the name, which may have any characters; numbered as in proc(5), from 3.
        stat = (directory / "stat").read_text().rpartition(")")[2].split()
        collected.add("pingora_process_cpu_seconds_total", (int(stat[11]) + int(stat[12])) / TICKS, (name,))
        collected.add("pingora_process_threads", int(stat[17]), (name,))
        collected.add("pingora_process_resident_memory_bytes", int(stat[21]) * PAGE_BYTES, (name,))
        started = booted_at() + int(stat[19]) / TICKS
        collected.values.setdefault("pingora_process_start_time_seconds", {})[(name,)] = round(started, 2)
        collected.add("pingora_process_open_fds", len(os.listdir(directory / "fd")), (name,))
        for line in (directory / "limits").read_text().splitlines():
            if line.startswith("Max open files") and (most := line.split()[3]) != "unlimited":
                collected.values.setdefault("pingora_process_max_fds", {})[(name,)] = int(most)


def booted_at() -> float:
    """Give the time at which the clock of /proc began."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def collect_here(serving: "Serving") -> Collected:
    """Give the metrics of the present process."""
    serving.sample()
    collected = Collected()
    blocks = [serving.reactor.counters]
    if metrics.place.is_used and metrics.place.counters is not blocks[0]:
        blocks.append(metrics.place.counters)
    for counters in blocks:
        collected.add_block(counters.memory, schema())
    add_build(collected)
    add_process(collected, os.getpid(), "this")
    return collected
