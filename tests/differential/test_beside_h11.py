"""The whole server connection beside h11: the same bytes must be the same requests, or differences.toml says why not.

`make fuzz` runs the same comparison for longer (tests/fuzz/fuzz_connection.py).
"""

import logging
import random
from pathlib import Path

import pytest
from beside_h11 import Explanations, Pair, check, smallest
from streams import stream

HERE = Path(__file__).parent
CORPUS = {path.name: path.read_bytes() for path in sorted((HERE.parent / "fuzz/corpus/connection").iterdir())}
N_STREAMS = 600
SEED = 20261128


@pytest.fixture
def pair(caplog):
    caplog.set_level(logging.CRITICAL + 1)
    pair = Pair()
    yield pair
    pair.close()


@pytest.fixture
def explanations():
    return Explanations(HERE / "differences.toml")


def test_the_corpus_is_judged_as_h11_does_or_for_a_reason_and_every_reason_is_needed(pair, explanations):
    unexplained = {name: problem for name, data in CORPUS.items() if (problem := check(pair, explanations, data))}
    assert unexplained == {}
    assert {row["name"] for row in explanations.rows} - explanations.used == set()


def test_streams_made_by_chance_are_judged_as_h11_does_or_for_a_reason(pair, explanations):
    corpus = list(CORPUS.values())
    for seed in range(SEED, SEED + N_STREAMS):
        rng = random.Random(seed)
        data = stream(rng, corpus)
        problem = check(pair, explanations, data, rng)
        if problem is not None:
            data = smallest(data, lambda part: check(pair, explanations, part))
            pytest.fail(f"seed {seed}: {problem}\nthe smallest stream that shows a fault:\n{data!r}")
    assert len(pair.origin.requests) > N_STREAMS // 4, "the streams have become too bad to show anything"
