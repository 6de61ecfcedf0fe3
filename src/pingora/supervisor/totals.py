"""The metrics of an instance: what all its processes count, what its supervisor notes, what the kernel says of them."""

import struct
import time
from collections.abc import Iterable, Sequence

from pingora.observe.collected import Collected
from pingora.observe.families import schema
from pingora.observe.scrape import add_build, add_process
from pingora.supervisor.board import AGENT, Board
from pingora.supervisor.statistics import (
    AGENTS_DIED,
    BLOCK_PID,
    GENERATION,
    GENERATION_PID,
    HAS_ENDED,
    PAST,
    PID,
    REFUSED_RELOADS,
    RELOADS,
    STARTED_MS,
    WORKERS_DIED,
    Statistics,
    lives,
)
from pingora_c.stats.counters import Counters
from pingora_c.stats.reading import end_gauges

BLOCK_DROPPED = 2  # word of a block's header


def collect_instance(statistics: Sequence[Statistics], board: Board) -> Collected:
    """Add up what the processes count now, and what those before them have counted."""
    collected = Collected()
    absorbed = statistics[0].absorbed
    statistics = [one for one in statistics if one.identity not in absorbed and one.schema]
    for one in statistics:
        add_blocks(collected, one)
        for name, word, label in (
            ("pingora_reloads_total", RELOADS, "done"),
            ("pingora_reloads_total", REFUSED_RELOADS, "refused"),
            ("pingora_processes_died_total", WORKERS_DIED, "worker"),
            ("pingora_processes_died_total", AGENTS_DIED, "agent"),
        ):
            collected.add(name, one.word(word), (label,))
        for block in one.blocks():
            header = struct.unpack_from("16Q", block)
            collected.add("pingora_metrics_dropped_total", header[BLOCK_DROPPED])
    add_instance(collected, statistics[0], board)
    for number, one in enumerate(statistics):
        add_processes(collected, one, is_present=number == 0)
    return collected


def add_blocks(collected: Collected, one: Statistics) -> None:
    """Add what all blocks of a memory say."""
    for block in one.blocks():
        pid = struct.unpack_from("Q", block, 8 * BLOCK_PID)[0]
        collected.add_block(block, one.schema, has_gauges=bool(pid) and lives(pid))


def begin(present: Statistics, earlier: Iterable[Statistics]) -> None:
    """Say what will be counted, and take over the numbers of ended instances; before anybody counts or reads."""
    if present.schema:
        return
    present.set_schema(schema())
    for one in earlier:
        if not one.word(HAS_ENDED) or one.schema != present.schema:
            continue
        if present.note_absorbed((one.identity, *one.absorbed)):
            past = Counters(present.block(PAST))
            for block in one.blocks():
                past.absorb(block)
            del past
            end_gauges(present.block(PAST))
            for name in (RELOADS, REFUSED_RELOADS, WORKERS_DIED, AGENTS_DIED):
                present.set_word(name, present.word(name) + one.word(name))


def add_instance(collected: Collected, present: Statistics, board: Board) -> None:
    """Add what the supervisor notes."""
    add_build(collected)
    started = present.word(STARTED_MS) / 1000
    collected.add("pingora_start_time_seconds", started)
    collected.add("pingora_uptime_seconds", round(time.time() - started, 3))
    collected.add("pingora_generation", present.word(GENERATION))
    for state in ("serving", "draining"):
        collected.add("pingora_workers", 0, (state,))


def add_processes(collected: Collected, one: Statistics, is_present: bool) -> None:
    """Add what the kernel says of the processes; those that drain are added up."""
    if is_present:
        add_process(collected, one.word(PID), "supervisor")
        add_process(collected, one.word(GENERATION_PID), "generation")
    for pid, place, generation in one.processes():
        is_draining = not is_present or generation != one.word(GENERATION)
        if place != AGENT:
            collected.add("pingora_workers", 1, ("draining" if is_draining else "serving",))
        name = "draining" if is_draining else "agent" if place == AGENT else f"worker-{place}"
        add_process(collected, pid, name)
