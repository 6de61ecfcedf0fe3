"""Limits are checked when they are made."""

import dataclasses
import math
from pathlib import Path

import pytest

from pingora.limits import RULES, Limits
from pingora_c.proxy.counter_names import COUNTER_NAMES

FIELDS = dataclasses.fields(Limits)
DOCUMENT = Path(__file__).parents[2] / "docs" / "limits.md"


@pytest.mark.parametrize("name", [field.name for field in FIELDS])
@pytest.mark.parametrize("bad", [-1, "30", math.nan, math.inf, True, [], 1e9], ids=repr)
def test_a_value_that_makes_no_sense_is_refused_with_name_range_and_value(name, bad):
    with pytest.raises(ValueError, match=rf"^Limits: {name}: expected [\d.]+ to \d+ \w+.*, got ") as caught:
        Limits(**{name: bad})
    assert str(caught.value).endswith(f"got {bad!r}")


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_both_ends_of_the_range_and_the_default_are_taken(field):
    rule = RULES[field.name]
    for value in (rule.least, rule.most, field.default, *rule.also):
        assert getattr(Limits(**{field.name: value}), field.name) == value


@pytest.mark.parametrize(
    ("name", "value", "is_taken"),
    [
        ("hook_timeout", 0, True),
        ("hook_timeout", None, False),
        ("hook_timeout", False, False),
        ("blocked_after", None, True),
        ("blocked_after", 0, False),
        ("keep_alive", 0, False),
        ("keep_alive", None, False),
        ("fields", 0, False),
        ("fields", 12.0, False),
        ("head_timeout", 1, True),
    ],
)
def test_none_and_zero_are_taken_only_where_they_mean_something(name, value, is_taken):
    try:
        Limits(**{name: value})
    except ValueError:
        assert not is_taken
    else:
        assert is_taken


def test_all_that_is_wrong_is_named_at_once():
    with pytest.raises(ValueError, match="keep_alive") as caught:
        Limits(keep_alive=-1, fields=0)
    assert str(caught.value) == (
        "Limits: keep_alive: expected 0.001 to 86400 seconds, got -1; fields: expected 1 to 256 fields, got 0"
    )


def test_limits_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().keep_alive = 1


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_limit_is_in_the_document_with_default_range_and_counter(field):
    row = next(line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{field.name}` |"))
    _, _, default, span, *_, counter, _ = (cell.strip() for cell in row.split("|"))
    rule = RULES[field.name]
    assert default == str(field.default)
    assert span == f"{rule.least} to {rule.most}" + "".join(f", {value}: none" for value in rule.also)
    assert counter.strip("`") in COUNTER_NAMES
