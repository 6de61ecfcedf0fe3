"""The metrics of pingora: one table with the name, kind, labels and meaning of each. docs/metrics.md shows it.

What the core counts by fixed places is in `pingora_c.proxy.counter_names`; what it counts for each service and upstream
is described here, by the cells of pingora_c/stats/counters.pxd.
"""

import re
from dataclasses import dataclass
from typing import Any

from pingora_c.proxy.counter_names import COUNTER_NAMES

LATENCY_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0),
)
HOOKS_S = (0.00002, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
NAME = re.compile(r'([a-z0-9_]+)(?:\{([a-z_]+)="([^"]*)"\})?')


@dataclass(frozen=True)
class Family:
    """A metric: "counter", "gauge" or "histogram"; a counter's name ends in _total.

    `across` says what becomes of the gauges of several processes: "sum", "max" or "min". `borders` are the upper ends
    of a histogram's buckets.
    """

    name: str
    kind: str
    text: str
    labels: tuple[str, ...] = ()
    borders: tuple[float, ...] = ()
    across: str = "sum"


@dataclass(frozen=True)
class Cell:
    """A cell of a service or an upstream: for which metric, with which labels behind the first, in what place."""

    family: str
    at: int
    labels: tuple[str, ...] = ()


COUNTED = (
    Family("pingora_connections_accepted_total", "counter", "Connections of clients that were accepted."),
    Family("pingora_connections_open", "gauge", "Connections of clients that are open."),
    Family("pingora_requests_total", "counter", "Requests whose head was whole and valid."),
    Family("pingora_requests_active", "gauge", "Requests that have not ended."),
    Family("pingora_responses_total", "counter", "Heads of answers that were written to clients.", ("class",)),
    Family("pingora_upstream_attempts_total", "counter", "Upstreams that were asked, or tried to be."),
    Family("pingora_retries_total", "counter", "Attempts behind the first of their request."),
    Family("pingora_upstream_failures_total", "counter", "Attempts that failed, tried again or not.", ("reason",)),
    Family("pingora_failures_total", "counter", "Requests that failed.", ("reason",)),
    Family("pingora_refusals_total", "counter", "Messages refused before they became a request.", ("reason",)),
    Family("pingora_connections_closed_total", "counter", "Connections that ended at a limit.", ("reason",)),
    Family("pingora_connections_refused_total", "counter", "Connections closed once they were accepted.", ("reason",)),
    Family("pingora_proxy_headers_total", "counter", "Clients that a proxy in front introduced by the PROXY protocol."),
    Family("pingora_tls_handshakes_total", "counter", "TLS handshakes with clients that succeeded."),
    Family("pingora_tls_handshake_failures_total", "counter", "TLS handshakes with clients that failed."),
    Family("pingora_accept_pauses_total", "counter", "Pauses of 0.1 s in accepting.", ("reason",)),
    Family("pingora_endpoint_outages_total", "counter", "Endpoints that failures in a row took out of selection."),
    Family("pingora_endpoint_returns_total", "counter", "Endpoints that an answer brought in again."),
    Family("pingora_loop_blocked_total", "counter", "Hooks that held the loop beyond Limits.blocked_after."),
    Family("pingora_buffers_bytes", "gauge", "Memory of the buffers that are in use."),
    Family("pingora_upstream_connections_idle", "gauge", "Connections to upstreams that wait in the pools."),
)
OF_SERVICES = (
    Family("pingora_service_connections_open", "gauge", "Connections of clients that are open.", ("service",)),
    Family("pingora_service_requests_active", "gauge", "Requests that have not ended.", ("service",)),
    Family("pingora_service_connections_total", "counter", "Connections that were accepted.", ("service",)),
    Family("pingora_service_requests_total", "counter", "Requests that have ended.", ("service", "class")),
    Family("pingora_service_sent_bytes_total", "counter", "Bytes of bodies to clients.", ("service",)),
    Family("pingora_service_received_bytes_total", "counter", "Bytes of bodies from clients.", ("service",)),
    Family(
        "pingora_service_request_duration_seconds",
        "histogram",
        "From a request's first byte to the end of its answer.",
        ("service",),
        LATENCY_S,
    ),
    Family(
        "pingora_service_hooks_duration_seconds",
        "histogram",
        "Time of a request inside the synchronous parts of hooks.",
        ("service",),
        HOOKS_S,
    ),
)
OF_UPSTREAMS = (
    Family("pingora_upstream_active", "gauge", "Attempts that have not ended.", ("upstream",)),
    Family("pingora_upstream_requests_total", "counter", "Attempts, also those that failed.", ("upstream",)),
    Family("pingora_upstream_retries_total", "counter", "Attempts behind the first of their request.", ("upstream",)),
    Family("pingora_upstream_reused_total", "counter", "Attempts over a pooled connection.", ("upstream",)),
    Family("pingora_upstream_failed_total", "counter", "Attempts that failed.", ("upstream", "phase")),
    Family("pingora_upstream_responses_total", "counter", "Heads of answers.", ("upstream", "class")),
    Family(
        "pingora_upstream_connect_duration_seconds",
        "histogram",
        "To a new connection, TLS included.",
        ("upstream",),
        LATENCY_S,
    ),
    Family(
        "pingora_upstream_first_byte_duration_seconds",
        "histogram",
        "From a connection to the head of the answer.",
        ("upstream",),
        LATENCY_S,
    ),
)
HISTOGRAM_CELLS = 764
SERVICE_CELLS = (
    Cell("pingora_service_connections_open", 0),
    Cell("pingora_service_requests_active", 1),
    Cell("pingora_service_connections_total", 2),
    *(Cell("pingora_service_requests_total", 3 + i, (name,)) for i, name in enumerate(CLASSES) if i != 1),
    Cell("pingora_service_sent_bytes_total", 9),
    Cell("pingora_service_received_bytes_total", 10),
    Cell("pingora_service_request_duration_seconds", 16),
    Cell("pingora_service_hooks_duration_seconds", 16 + HISTOGRAM_CELLS),
)
UPSTREAM_CELLS = (
    Cell("pingora_upstream_active", 0),
    Cell("pingora_upstream_requests_total", 1),
    Cell("pingora_upstream_retries_total", 2),
    Cell("pingora_upstream_reused_total", 3),
    Cell("pingora_upstream_failed_total", 4, ("connect",)),
    Cell("pingora_upstream_failed_total", 5, ("exchange",)),
    *(Cell("pingora_upstream_responses_total", 6 + i, (name,)) for i, name in enumerate(CLASSES) if i > 1),
    Cell("pingora_upstream_connect_duration_seconds", 16),
    Cell("pingora_upstream_first_byte_duration_seconds", 16 + HISTOGRAM_CELLS),
)
OF_COLLECTOR = Family(
    "pingora_collector_pause_seconds",
    "histogram",
    "Runs of Python's garbage collector, which hold the loop.",
    ("generation",),
    (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5),
)
RING_RECORDS = Family("pingora_ring_records_total", "counter", "Records that were put into a ring.", ("ring",))
RING_DROPPED = Family("pingora_ring_dropped_total", "counter", "Records for which a ring had no room.", ("ring",))
OF_INSTANCE = (
    Family("pingora_build_info", "gauge", "1, with the version as a label.", ("version", "python")),
    Family("pingora_start_time_seconds", "gauge", "When the instance was started, in Unix time."),
    Family("pingora_uptime_seconds", "gauge", "Time since then."),
    Family("pingora_generation", "gauge", "Number of the generation that serves."),
    Family("pingora_workers", "gauge", "Workers, by what they do.", ("state",)),
    Family("pingora_reloads_total", "counter", "Reloads.", ("result",)),
    Family("pingora_processes_died_total", "counter", "Processes that ended without being told to.", ("process",)),
    Family("pingora_metrics_dropped_total", "counter", "Metrics that found no room in their process."),
)
OF_PROCESSES = (
    Family("pingora_process_cpu_seconds_total", "counter", "Processor time.", ("process",)),
    Family("pingora_process_resident_memory_bytes", "gauge", "Memory in RAM, also what is shared.", ("process",)),
    Family("pingora_process_open_fds", "gauge", "Open descriptors.", ("process",)),
    Family("pingora_process_max_fds", "gauge", "How many there may be.", ("process",)),
    Family("pingora_process_threads", "gauge", "Threads.", ("process",)),
    Family("pingora_process_start_time_seconds", "gauge", "When it was started, in Unix time.", ("process",)),
)


def split_name(name: str) -> tuple[str, tuple[str, ...]]:
    """Split a name of COUNTER_NAMES into its metric and the values of its labels."""
    found = NAME.fullmatch(name)
    assert found is not None
    return found[1], () if found[2] is None else (found[3],)


def plain_family(name: str) -> Family:
    """Describe a counter of the core as far as its name tells."""
    found = NAME.fullmatch(name)
    assert found is not None
    kind = "counter" if found[1].endswith("_total") else "gauge"
    return Family(found[1], kind, "See docs/counters.md.", () if found[2] is None else (found[2],))


DESCRIBED = {
    family.name: family
    for part in (
        OF_INSTANCE,
        COUNTED,
        OF_SERVICES,
        OF_UPSTREAMS,
        (OF_COLLECTOR, RING_RECORDS, RING_DROPPED),
        OF_PROCESSES,
    )
    for family in part
}
FAMILIES = {family.name: family for family in map(plain_family, filter(None, COUNTER_NAMES))} | DESCRIBED


def schema() -> dict[str, Any]:
    """Describe what the blocks of this version hold, for readers of another version; JSON can carry it."""
    return {
        "counters": COUNTER_NAMES,
        "service": [[cell.family, cell.at, cell.labels] for cell in SERVICE_CELLS],
        "upstream": [[cell.family, cell.at, cell.labels] for cell in UPSTREAM_CELLS],
    }
