"""The targets of the rows, and whether a run met them."""

from collections.abc import Callable
from dataclasses import dataclass

from . import rows, several
from .report import table
from .results import Results

US = "pingora"


@dataclass(frozen=True)
class Verdict:
    """`is_met` is None if the run did not measure the row."""

    row: str
    target: str
    measured: str
    is_met: bool | None


def ratio_gate(title: str, workload: str, to: str, limit: float) -> Callable[[Results], Verdict]:
    """CPU per request: the median of the paired ratios is at most `limit`."""

    def judge(results: Results) -> Verdict:
        target = f"≤ {limit:.2f} x {to}"
        ratio = results.ratio(workload, US, to)
        if not ratio:
            return Verdict(title, target, "not measured", None)
        # Rounds with errors are no result: the row stands only if every round counted.
        is_whole = None not in results.workloads[workload][US]
        measured = f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})" + ("" if is_whole else ", with errors")
        return Verdict(title, target, measured, ratio.median <= limit and is_whole)

    return judge


def better_gate(title: str, workload: str, limit: float) -> Callable[[Results], Verdict]:
    """CPU per request: at most `limit` times that of the better of nginx and HAProxy."""

    def judge(results: Results) -> Verdict:
        target = f"≤ {limit:.2f} x the better of nginx and HAProxy"
        ratios = [ratio for to in ("nginx", "haproxy") if (ratio := results.ratio(workload, US, to))]
        if not ratios:
            return Verdict(title, target, "not measured", None)
        worst = max(ratios, key=lambda ratio: ratio.median)
        is_whole = None not in results.workloads[workload][US]
        measured = f"{worst.median:.2f} ({worst.low:.2f}-{worst.high:.2f})" + ("" if is_whole else ", with errors")
        return Verdict(title, target, measured, worst.median <= limit and is_whole)

    return judge


def limit_gate(title: str, row: str, limit: float, unit: str) -> Callable[[Results], Verdict]:
    """A value of our own is at most `limit`."""

    def judge(results: Results) -> Verdict:
        value = results.value(row, US)
        measured = "not measured" if value is None else f"{value:.2f} {unit}"
        return Verdict(title, f"≤ {limit:g} {unit}", measured, None if value is None else value <= limit)

    return judge


def nginx_gate(title: str, row: str, plus: float = 0.0) -> Callable[[Results], Verdict]:
    """A value of our own is at most nginx's, plus an allowance."""

    def judge(results: Results) -> Verdict:
        target = "≤ nginx" + (f" + {plus:g}" if plus else "")
        ours, theirs = results.value(row, US), results.value(row, "nginx")
        if ours is None or theirs is None:
            return Verdict(title, target, "not measured", None)
        # Counted over thousands of requests: two decimals are what the count can tell.
        return Verdict(title, target, f"{ours:.2f}, nginx {theirs:.2f}", round(ours, 2) <= round(theirs + plus, 2))

    return judge


def several_gate(results: Results) -> Verdict:
    title, target = "new upstream connections, 4 workers", "≤ 1.5 x those of 1 worker"
    one, four = (results.value(several.OPENED.format(count), US) for count in (1, 4))
    if one is None or four is None:
        return Verdict(title, target, "not measured", None)
    return Verdict(title, target, f"{four:.0f}, 1 worker {one:.0f}", four <= 1.5 * one)


def speedup_gate(results: Results) -> Verdict:
    title, target = "requests per second of 2 workers", "≥ 1.8 x those of 1 worker"
    value = results.value(several.SPEEDUP, US)
    measured = "not measured" if value is None else f"{value:.2f} x"
    return Verdict(title, target, measured, None if value is None else value >= 1.8)


def download_gate(results: Results) -> Verdict:
    title, target = "small requests beside a 1 GiB download: p99", "≤ 2 x without it"
    alone, beside = results.value(rows.ALONE_P99, US), results.value(rows.BESIDE_P99, US)
    if alone is None or beside is None:
        return Verdict(title, target, "not measured", None)
    return Verdict(title, target, f"{beside:.0f} µs, without {alone:.0f} µs", beside <= 2 * alone)


GATES: tuple[Callable[[Results], Verdict], ...] = (
    ratio_gate("small answers, no hooks", "small", "relay", 1.12),
    ratio_gate("small answers, no hooks", "small", "nginx", 1.0),
    ratio_gate("two Python hooks", "hooks", "nginx", 1.0),
    ratio_gate("examples/gateway.py", "gateway", "nginx", 1.1),
    ratio_gate("64 KiB answers", "64k", "relay", 1.25),
    ratio_gate("64 KiB answers", "64k", "nginx", 0.55),
    ratio_gate("1 MiB answers", "1m", "relay", 1.15),
    ratio_gate("1 MiB answers", "1m", "nginx", 0.50),
    ratio_gate("no keep-alive", "nokeepalive", "nginx", 0.9),
    ratio_gate("small answers over TLS", "tls", "nginx", 0.8),
    ratio_gate("64 KiB answers over TLS", "tls64k", "nginx", 0.8),
    ratio_gate("TLS handshakes", "handshakes", "nginx", 1.0),
    better_gate("small answers over HTTP/2", "h2", 1.0),
    better_gate("64 KiB answers over HTTP/2", "h264k", 1.0),
    ratio_gate("small answers from an origin of HTTP/2", "toh2c", "haproxy", 1.0),
    ratio_gate("64 KiB answers from an origin of HTTP/2", "toh2c64k", "haproxy", 1.0),
    ratio_gate("small answers from HTTP/2 to HTTP/2", "h2toh2c", "haproxy", 1.0),
    nginx_gate("system calls per request, 1 connection", rows.SYSTEM_CALLS.format(1), plus=1),
    nginx_gate("system calls per request, 8 connections", rows.SYSTEM_CALLS.format(8)),
    nginx_gate("system calls per request, 64 connections", rows.SYSTEM_CALLS.format(64)),
    limit_gate("idle keep-alive connection", rows.IDLE, 0.6, "KiB"),
    limit_gate("idle keep-alive connection over TLS", rows.IDLE_TLS, 15, "KiB"),
    limit_gate("memory of a fresh instance, 1 worker", rows.FRESH, 40, "MiB"),
    limit_gate("start to first served request", rows.START, 300, "ms"),
    nginx_gate("open loop at 80 % of nginx's maximum: p99, µs", rows.OPEN_LOOP_P99),
    download_gate,
    speedup_gate,
    limit_gate("busiest of 2 workers beside the idlest", several.SPREAD, 1.3, "x"),
    several_gate,
)
WORDS = {True: "met", False: "**not met**", None: "-"}


def judge(results: Results) -> list[Verdict]:
    return [gate(results) for gate in GATES]


def gates_markdown(verdicts: list[Verdict]) -> str:
    lines = ([verdict.row, verdict.target, verdict.measured, WORDS[verdict.is_met]] for verdict in verdicts)
    return "\n".join(["## Targets", "", *table(("row", "target", "measured", "verdict"), lines)]) + "\n"
