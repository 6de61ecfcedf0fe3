"""Counting the core's objects, in the builds that do."""

import pytest

from pingora_c.http import message

pytest.importorskip("pingora_c.base.lifetimes", reason="only debug and asan builds count")

import balance

from pingora_c.base import lifetimes
from pingora_c.h2.probe import Probe


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(balance, "PATIENCE_S", 0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("make", [message.RequestHead, message.ResponseHead])
def test_what_is_kept_is_left_behind_until_it_is_let_go(make):
    before = balance.living()
    kept = make()
    assert balance.left_behind(before) == {make.__name__: 1, "HeaderBlock": 1}
    del kept
    assert balance.left_behind(before) == {}


def test_a_class_and_the_one_below_it_are_counted_apart():
    before = balance.living()
    probe = Probe(False)
    more = balance.left_behind(before)
    assert (more["Probe"], "H2Session" in more) == (1, False)
    del probe
    assert balance.left_behind(before) == {}


def test_classes_made_in_python_are_not_counted():
    assert not lifetimes.count(type("Made", (), {}))
    assert "Made" not in lifetimes.living()
    with pytest.raises(TypeError, match="expected a class"):
        lifetimes.count(1)
