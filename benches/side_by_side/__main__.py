"""The command `python -m benches.side_by_side`."""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

from .gates import gates_markdown, judge
from .origin import Origin
from .peers import DEFAULT_PEERS, PEERS
from .processes import Cpus
from .report import markdown
from .results import Results, describe_machine
from .rows import ROWS
from .workloads import WORKLOADS, Bench, run_workload

TOOLS = {
    "nginx": "nginx",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "curl": "curl",
    "openssl": "openssl",
    "taskset": "util-linux",
}

INTERRUPTED = 128 + signal.SIGINT


def names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return an argument type: a comma-separated list of known names; `all`, or `none`."""
    choices = list(known)

    def parse(text: str) -> list[str]:
        if text == "none":
            return []
        chosen = choices if text == "all" else [name.strip() for name in text.split(",")]
        unknown = [name for name in chosen if name not in choices]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known are {', '.join(choices)}")
        return chosen

    return parse


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benches.side_by_side",
        description="Compare pingora with nginx, HAProxy and a byte-copying relay, one worker on one CPU each.",
    )
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds per workload (default 15)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one sample (default 3)")
    parser.add_argument(
        "--workload", type=names(WORKLOADS), default=list(WORKLOADS), help=f"of {','.join(WORKLOADS)} (default all)"
    )
    parser.add_argument(
        "--rows", type=names(ROWS), default=list(ROWS), help=f"of {','.join(ROWS)} (default all; or none)"
    )
    parser.add_argument(
        "--peers",
        type=names(PEERS),
        default=list(DEFAULT_PEERS),
        help=f"of {','.join(PEERS)} (default {','.join(DEFAULT_PEERS)})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="measure nothing: report what FILE holds")
    parser.add_argument("--gates", action="store_true", help="judge the targets; exit 1 if one is not met")
    return parser.parse_args()


def check_tools() -> None:
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        sys.exit(f"side_by_side: missing; install with: apt-get install {' '.join(missing)}")


def tell(message: str) -> None:
    """Progress goes to stderr: stdout is the report."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


def on_interrupt(number: int, frame: FrameType | None) -> None:
    """Unwind at Ctrl-C or SIGTERM, so that what was started is stopped; a second one must not break that off."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def measure(options: argparse.Namespace, results: Results) -> None:
    """Run everything asked for; what was measured before an interruption stays in `results`."""
    cpus = Cpus.choose()
    os.sched_setaffinity(0, {cpus.load})  # the benchmark itself must not disturb the proxy either
    tell(f"proxy on CPU {cpus.proxy}, load generator and origin on CPU {cpus.load}")
    if cpus.is_shared:
        results.skipped["a CPU of its own"] = "there is one CPU for proxy, load generator and origin"
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="side-by-side-")))
        origin = Origin.start(work, cpus, serves_gateway="gateway" in options.workload)
        stack.callback(origin.stop)
        bench = Bench(work, cpus, origin, results, tell)
        for name in options.workload:
            run_workload(bench, WORKLOADS[name], options.peers, options.rounds, options.seconds)
        for name in options.rows:
            ROWS[name](bench, options.peers, options.rounds, options.seconds)


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGINT, on_interrupt)
    signal.signal(signal.SIGTERM, on_interrupt)
    is_whole = True
    if options.from_json:
        results = Results.load(options.from_json)
    else:
        check_tools()
        results = Results(machine=describe_machine())
        try:
            measure(options, results)
        except KeyboardInterrupt:
            results.skipped["the rest of the run"] = "interrupted"
            tell("interrupted")
            is_whole = False
    print(markdown(results))
    if options.json:
        results.save(options.json)
    if not options.gates:
        return 0 if is_whole else INTERRUPTED
    verdicts = judge(results)
    print(gates_markdown(verdicts))
    if not is_whole:
        return INTERRUPTED
    return 1 if any(verdict.is_met is False for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
