"""docs/metrics.md has every metric that there is, and what is shown is in it."""

import re
from pathlib import Path

import pytest
from conversations import GET, proxy_to
from metrics_text import samples_of

from pingora.observe import families
from pingora.observe.families import DESCRIBED, FAMILIES
from pingora_c.proxy.counter_names import COUNTER_NAMES

DOCUMENTS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCUMENTS / "metrics.md").read_text()
COUNTERS = re.findall(r"^\| `(pingora_[a-z0-9_]+)[`{]", (DOCUMENTS / "counters.md").read_text(), re.MULTILINE)
ROWS = {
    name: (kind, unit, tuple(re.findall("`([a-z]+)`", labels)))
    for name, kind, unit, labels in re.findall(
        r"^\| `(pingora_[a-z0-9_]+)` \| (\w+) \| (\w*) \| ([^|]*) \| \S", DOCUMENT, re.MULTILINE
    )
}


def unit_of(name):
    found = re.search(r"_(seconds|bytes)(_total)?$", name)
    return found[1] if found else ""


def test_every_metric_is_described_with_its_kind_unit_and_labels():
    known = {name: (family.kind, unit_of(name), family.labels) for name, family in DESCRIBED.items()}
    assert known == ROWS


def test_every_counter_of_the_core_is_a_metric_with_its_labels():
    for name in filter(None, COUNTER_NAMES):
        family, values = families.split_name(name)
        labels = re.findall(r'[{,](\w+)="', name)
        assert tuple(labels) == FAMILIES[family].labels
        assert len(values) == len(labels)


@pytest.mark.parametrize("borders", [families.LATENCY_S, families.HOOKS_S, families.OF_COLLECTOR.borders])
def test_the_borders_of_histograms_are_described(borders):
    assert f"| {', '.join(f'`{border:g}`' for border in borders)} |" in DOCUMENT


def test_what_a_process_shows_is_described(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").address))
    proxy.exchange(GET)
    for is_openmetrics in (False, True):
        seen = samples_of(proxy.serving.metrics(is_openmetrics), is_openmetrics)
        names = {re.sub(r"_(bucket|count|sum)$", "", name.partition("{")[0]) for name in seen}
        names = {name for name in names if name.startswith("pingora_")}  # not those of other tests in this process
        assert names <= {*ROWS, *COUNTERS}
        assert {f"pingora_service_{name}" for name in ("requests_total", "request_duration_seconds")} <= names
