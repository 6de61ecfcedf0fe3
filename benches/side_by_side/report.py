"""Results as Markdown tables."""

from collections.abc import Iterable

from .results import Results, Sample, Spread
from .workloads import WORKLOADS

COLUMNS = (
    "proxy",
    "CPU µs/request",
    "of it user",
    "ratio to relay",
    "ratio to nginx",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "CPU busy",
    "rounds",
)
PARENT_LIMIT = 0.01  # a supervising process that uses more than this of the workers' time is not idle


def markdown(results: Results) -> str:
    parts = ["# Side by side\n", *(f"- {name}: {value}" for name, value in results.machine.items())]
    for name in results.workloads:
        parts += ["", f"## {WORKLOADS[name].title}", "", *workload_table(results, name)]
    if results.rows:
        parts += ["", "## Other rows", "", *rows_table(results)]
    skipped = [f"{what} skipped: {why}" for what, why in results.skipped.items()]
    notes = [*skipped, *(f"FAILED: {failure}" for failure in results.failures), *busy_parents(results)]
    if notes:
        parts += ["", "## Notes", "", *(f"- {note}" for note in notes)]
    return "\n".join(parts) + "\n"


def table(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> list[str]:
    columns = list(columns)
    rule = ["---", *("---:" for _ in columns[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *lines)]


def workload_table(results: Results, workload: str) -> list[str]:
    return table(COLUMNS, (workload_line(results, workload, peer) for peer in results.workloads[workload]))


def workload_line(results: Results, workload: str, peer: str) -> list[str]:
    samples = results.samples(workload, peer)
    if not samples:
        return [peer, *("-" for _ in COLUMNS[1:])]

    def median(of: str) -> float:
        return Spread.of([getattr(sample, of) for sample in samples]).median

    return [
        peer,
        f"{median('cpu_us_per_request'):.1f}",
        f"{median('user_us_per_request'):.1f}",
        ratio_cell(results, workload, peer, "relay"),
        ratio_cell(results, workload, peer, "nginx"),
        f"{median('per_second'):,.0f}",
        f"{median('p50_us') / 1e3:.2f}",
        f"{median('p99_us') / 1e3:.2f}",
        f"{median('busy_share'):.0%}",
        str(len(samples)),
    ]


def ratio_cell(results: Results, workload: str, peer: str, to: str) -> str:
    ratio = results.ratio(workload, peer, to)
    if peer == to or not ratio:
        return "1" if peer == to else "-"
    return f"**{ratio.median:.2f}** ({ratio.low:.2f}-{ratio.high:.2f})"


def rows_table(results: Results) -> list[str]:
    names = list(dict.fromkeys(name for values in results.rows.values() for name in values))

    def cell(row: str, name: str) -> str:
        values = results.rows[row].get(name)
        if not values:
            return "-"
        spread = Spread.of(values)
        return number(spread.median) + (
            f" ({number(spread.low)}-{number(spread.high)})" if spread.low != spread.high else ""
        )

    return table(["row", *names], ([row, *(cell(row, name) for name in names)] for row in results.rows))


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def busy_parents(results: Results) -> list[str]:
    """Name the peers whose uncounted parent process was not idle."""

    def share(samples: list[Sample]) -> float:
        return sum(sample.parent_ns for sample in samples) / max(1, sum(sample.cpu_ns for sample in samples))

    found = []
    for workload, peers in results.workloads.items():
        for peer in peers:
            used = share(results.samples(workload, peer))
            if used > PARENT_LIMIT:
                found.append(f"{peer}, {workload}: the parent process used {used:.1%} of the workers' CPU, not counted")
    return found
