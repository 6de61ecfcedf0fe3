"""Properties that are read by a table answer as the usual look-up does."""

import copy

import pytest

from pingora_c.http.message import RequestHead, ResponseHead
from pingora_c.proxy.session import Session
from pingora_c.proxy.timings import Timings


def own_properties(kind):
    return [name for name, found in vars(kind).items() if type(found).__name__ == "getset_descriptor"]


@pytest.mark.parametrize("head", [RequestHead("GET", "/a?b", {"host": "x"}), ResponseHead(204, {"server": "x"})])
def test_each_property_is_what_its_descriptor_gives(head):
    names = own_properties(type(head))
    assert "headers" in names
    for name in names:
        assert getattr(head, name) == vars(type(head))[name].__get__(head)


@pytest.mark.parametrize("kind", [Session, Timings])
def test_classes_made_by_the_core_keep_their_descriptors(kind):
    assert own_properties(kind)
    for name in own_properties(kind):
        assert getattr(kind, name) is vars(kind)[name]


def test_names_that_are_not_interned_are_found_too():
    head = RequestHead("PUT", "/")
    name = "".join(["me", "th", "od"])
    assert getattr(head, name) == "PUT"
    assert getattr(head, "".join(["tar", "get"])) == "/"


def test_what_is_no_property_goes_the_usual_way():
    head = RequestHead("GET", "/")
    assert head.__class__ is RequestHead
    assert head.__copy__().target == copy.copy(head).target == "/"
    assert not hasattr(head, "methods")
    with pytest.raises(AttributeError, match=r"RequestHead' object has no attribute 'methods'"):
        _ = head.methods
    with pytest.raises(TypeError):
        getattr(head, 1)


def test_properties_are_set_as_before():
    head = RequestHead("GET", "/")
    head.method = "POST"
    assert head.method == "POST"
    with pytest.raises(AttributeError):
        head.version = "2"
    with pytest.raises(ValueError, match="method"):
        head.method = "a b"
