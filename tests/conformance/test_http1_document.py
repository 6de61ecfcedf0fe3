"""docs/http1.md and the tables of messages say the same."""

import re
from collections import defaultdict
from pathlib import Path

from http1_answers import ANSWERS
from http1_requests import REQUESTS

TEXT = (Path(__file__).parents[2] / "docs" / "http1.md").read_text()
ROW = re.compile(r"^\| `([a-z0-9.-]+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
REFUSAL = re.compile(r"([0-9]{3}) `([a-z0-9_]+)`")


def refusals(cases):
    """What the cases of each row are refused with."""
    found = defaultdict(set)
    for case in cases:
        told = [case.gets] if isinstance(case.gets, str | bytes) else case.gets
        for one in told:
            text = one.decode("latin-1") if isinstance(one, bytes) else one
            if match := re.search(r"(?:^|\n)([0-9]{3} [a-z][a-z0-9_]*)$", text):
                found[case.row].add(match[1])
    return found


def test_every_row_of_the_document_has_a_case_and_every_case_a_row():
    rows = [match[1] for match in ROW.finditer(TEXT)]
    assert len(rows) == len(set(rows)) == TEXT.count("\n| `")
    assert set(rows) == {case.row for case in [*REQUESTS, *ANSWERS]}
    assert not {case.row for case in REQUESTS} & {case.row for case in ANSWERS}


def test_every_row_tells_the_refusals_of_its_cases():
    found = refusals([*REQUESTS, *ANSWERS])
    told = {
        match[1]: {f"{status} {reason}" for status, reason in REFUSAL.findall(match[2])} for match in ROW.finditer(TEXT)
    }
    assert told == {row: found[row] for row in told}
