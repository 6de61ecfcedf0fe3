"""Metrics of the user's: what they accept, count and show, read by the parsers of prometheus_client."""

import pytest
from metrics_text import samples_of

from pingora import metrics
from pingora.observe.collected import Collected
from pingora.observe.exposition import render
from pingora.observe.families import schema
from pingora_c.stats.counters import Counters


@pytest.fixture(autouse=True)
def counters(monkeypatch):
    monkeypatch.setattr(metrics, "families", {})
    metrics.place.use(None)
    metrics.place.use(counters := Counters())
    yield counters
    metrics.place.use(None)


def shown(*blocks, has_gauges=True):
    collected = Collected()
    for block in blocks:
        collected.add_block(block.memory, schema(), has_gauges)
    seen = samples_of(render(collected, True), True)
    assert seen == samples_of(render(collected, False), False)
    return {name: value for name, value in seen.items() if not name.startswith("pingora_")}


def test_a_counter_adds_up_by_its_labels(counters):
    hits = metrics.Counter("hits", "Hits.", labels=["kind", "path"])
    assert hits.name == "hits_total"
    hits.labels("page", "/").inc()
    hits.labels(path="/", kind="page").inc(1.5)
    hits.labels("page", '/"quoted\\\n').inc()
    assert shown(counters) == {
        'hits_total{kind="page",path="/"}': 2.5,
        'hits_total{kind="page",path="/"quoted\\\n"}': 1.0,
    }


def test_a_gauge_goes_up_and_down_and_ends_with_its_process(counters):
    queue = metrics.Gauge("queue_length", "Waiting.")
    queue.set(5)
    queue.inc()
    queue.dec(2)
    assert shown(counters) == {"queue_length": 4.0}
    assert shown(counters, has_gauges=False) == {}


@pytest.mark.parametrize("kind", [metrics.Counter, metrics.Gauge, metrics.Histogram])
def test_a_text_is_no_list_of_labels(kind):
    with pytest.raises(TypeError, match=r"expected names of labels, got 'kind'; write labels=\['kind'\]"):
        kind("hits", "Hits.", labels="kind")


@pytest.mark.parametrize(("across", "value"), [("sum", 10.0), ("max", 7.0), ("min", 3.0)])
def test_gauges_of_several_workers_are_shown_as_one(across, value):
    level = metrics.Gauge("level", "Level.", across=across)
    blocks = [Counters(), Counters(), Counters()]
    for block, number in zip(blocks, (3, 7), strict=False):  # the third worker never set it
        metrics.place.use(None)
        metrics.place.use(block)
        level.set(number)
    assert shown(*blocks) == {"level": value}


def test_a_gauge_that_was_set_while_the_program_was_loaded_is_every_workers(counters):
    metrics.Gauge("level", "Level.").set(3)
    metrics.Counter("hits", "Hits.").inc()
    metrics.place.use(worker := Counters())
    assert shown(worker) == {"level": 3.0}


def test_a_histogram_has_a_bucket_for_each_border_and_one_for_all(counters):
    sizes = metrics.Histogram("sizes", "Sizes.", labels=["of"], buckets=[1, 10.5])
    for value in (0.5, 1, 2, 100):
        sizes.labels("a").observe(value)
    assert shown(counters) == {
        'sizes_bucket{of="a",le="1.0"}': 2.0,
        'sizes_bucket{of="a",le="10.5"}': 3.0,
        'sizes_bucket{of="a",le="+Inf"}': 4.0,
        'sizes_count{of="a"}': 4.0,
        'sizes_sum{of="a"}': 103.5,
    }


def test_a_block_of_code_is_timed(counters):
    work = metrics.Histogram("work_seconds", "Work.", buckets=[3600])
    with pytest.raises(KeyError), work.time():
        raise KeyError
    assert shown(counters)['work_seconds_bucket{le="3600.0"}'] == 1.0


def test_beyond_the_most_sets_of_labels_all_others_are_one(counters):
    hits = metrics.Counter("hits", "Hits.", labels=["path"], most=2)
    for i in range(5):
        hits.labels(f"/{i}").inc()
    assert shown(counters) == {
        'hits_total{path="/0"}': 1.0,
        'hits_total{path="/1"}': 1.0,
        'hits_total{path="_other"}': 3.0,
    }


def test_a_long_value_of_a_label_is_cut(counters):
    metrics.Counter("hits", "Hits.", labels=["path"]).labels("ä" * 1000).inc()
    assert shown(counters) == {'hits_total{path="' + "ä" * 100 + '"}': 1.0}


def test_what_was_counted_goes_on_in_the_same_memory(counters):
    hits = metrics.Counter("hits", "Hits.")
    hits.inc()
    metrics.place.use(again := Counters(counters.memory))
    hits.inc()
    assert shown(again) == {"hits_total": 2.0}


def test_one_definition_may_be_made_twice_and_counts_in_one_place(counters):
    for _ in range(2):
        metrics.Counter("hits", "Hits.").inc()
    assert shown(counters) == {"hits_total": 2.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.Counter("a-b", "x"), "expected letters, digits and _"),
        (lambda: metrics.Counter("pingora_x", "x"), "none of pingora_"),
        (lambda: metrics.Gauge("x_total", "x"), "another kind of metric"),
        (lambda: metrics.Gauge("x", "x", across="avg"), "expected sum, max or min, got 'avg'"),
        (lambda: metrics.Counter("x", "x", labels=["le"]), "'le' is no name for a label"),
        (lambda: metrics.Counter("x", "x", labels=["a", "a"]), "each once"),
        (lambda: metrics.Counter("x", "x", labels=[f"l{i}" for i in range(11)]), "at most 10 labels"),
        (lambda: metrics.Counter("x", "x" * 5000), "its text is too long"),
        (lambda: metrics.Counter("x", "x", most=0), "most: expected 1 to 10000, got 0"),
        (lambda: metrics.Histogram("x", "x", buckets=[]), "expected 1 to 200 rising numbers"),
        (lambda: metrics.Histogram("x", "x", buckets=[2, 1]), "expected 1 to 200 rising numbers"),
        (lambda: metrics.Histogram("x", "x", buckets=[1, float("inf")]), "expected 1 to 200 rising numbers"),
        (lambda: [metrics.Counter("x", text) for text in "ab"], "there is another one of this name"),
        (lambda: [metrics.Counter(f"x{i}", "x") for i in range(501)], "there are 500 already"),
        (lambda: metrics.Counter("x", "x").inc(-1), "a counter only grows, got -1"),
        (lambda: metrics.Counter("x", "x").inc(float("nan")), "a counter only grows, got nan"),
        (lambda: metrics.Counter("x", "x", labels=["a"]).inc(), "expected the labels a"),
        (lambda: metrics.Counter("x", "x").labels("a"), "expected the labels none"),
        (lambda: metrics.Counter("x", "x", labels=["a"]).labels(b=1), "expected the labels a"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
