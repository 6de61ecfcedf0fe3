"""Numbers and pictures of docs/benchmarks.md are those of the results that are kept."""

import importlib.util
from pathlib import Path

import pytest

from benches.side_by_side.results import Results
from benches.side_by_side.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()
KEPT = sorted((ROOT / "benches" / "results").glob("*.json"))
# The columns of the table and the picture of each.
SHOWN = {"2026-11-30_all.json": (("relay", "haproxy", "pingora-rs", "pingora"), "benchmarks_all.svg")}


def cell(ratio):
    return "-" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


def test_all_that_are_kept_are_shown():
    assert [path.name for path in KEPT] == sorted(SHOWN)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_the_ratios_that_are_told_are_those_that_were_measured(path):
    results = Results.load(path)
    assert path.name in PAGE
    assert {"date", "cpu", "kernel", "python"} <= set(results.machine)
    assert results.failures == []
    for workload in results.workloads:
        cells = [cell(results.ratio(workload, peer, "nginx")) for peer in SHOWN[path.name][0]]
        assert f"| {WORKLOADS[workload].title} | {' | '.join(cells)} |" in PAGE


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_the_picture_shows_the_kept_results(path, tmp_path):
    from benches.side_by_side.plot import draw

    _, name = SHOWN[path.name]
    drawn = tmp_path / name
    draw([Results.load(path)], drawn)
    for text in ("HAProxy", "1 MiB", "nginx = 1"):
        assert text in drawn.read_text()
    shown = (ROOT / "docs" / name).read_text()
    numbers = [line.strip() for line in shown.splitlines() if "<text" in line]
    assert numbers == [line.strip() for line in drawn.read_text().splitlines() if "<text" in line]
