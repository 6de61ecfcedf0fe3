"""Numbers and pictures of docs/benchmarks.md are those of the results that are kept."""

import importlib.util
from pathlib import Path

import pytest

from benches.side_by_side.results import Results

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()
KEPT = sorted((ROOT / "benches" / "results").glob("*.json"))
NAMES = {
    "small": "small answers (100 bytes)",
    "64k": "64 KiB answers",
    "1m": "1 MiB answers",
    "nokeepalive": "small answers, one request per connection",
}


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_the_ratios_that_are_told_are_those_that_were_measured(path):
    results = Results.load(path)
    assert path.name in PAGE
    assert {"date", "cpu", "kernel", "python"} <= set(results.machine)
    assert results.failures == []
    for workload, name in NAMES.items():
        cells = []
        for peer in ("relay", "haproxy", "pingora-rs", "pingora"):
            ratio = results.ratio(workload, peer, "nginx")
            cells.append(f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})")
        assert f"| {name} | {' | '.join(cells)} |" in PAGE


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_the_picture_shows_the_kept_results(tmp_path):
    from benches.side_by_side.plot import draw

    drawn = tmp_path / "benchmarks_cpu.svg"
    draw([Results.load(path) for path in KEPT], drawn)
    shown = (ROOT / "docs" / "benchmarks_cpu.svg").read_text()
    for text in ("Pingora (Rust)", "HAProxy", "1 MiB", "nginx = 1"):
        assert text in drawn.read_text()
    numbers = [line.strip() for line in shown.splitlines() if "<text" in line]
    assert numbers == [line.strip() for line in drawn.read_text().splitlines() if "<text" in line]
