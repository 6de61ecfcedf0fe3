"""Hosts with ports: the grammar, beside a slow reference."""

import ipaddress
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingora_c.http.authority import is_authority, settled

# RFC 3986 §3.2.2
AUTHORITIES = [
    *b"a: a.: a.:1".split(),
    *b"a a.b a. A-b_c~d 1.2.3.4 999.1 a:0 a:65535 a:00080 !$&'()*+;= [::] [::1]:1 [1:2:3:4:5:6:7:8]".split(),
    *b"[::ffff:1.2.3.4]:80 [ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]".split(),
]
BAD_AUTHORITIES = [
    *b".a a..b a.. .. . %41 a%2eb a..:1".split(),
    *b"a:b a:65536 a:-1 a:+1 a:1:2 a:4294967376 : :80 u@a u:p@a a/b a?b a#b a,b a\\b a% a%4 a%4g".split(),
    *b'"a" a^b a`b a|b <a> {a} [ [] [::1 ::1 [::1]a [::1]:65536 [::1%25eth0] [v1.a] [1.2.3.4] [:::] [::1]]'.split(),
    *(b"", b"a[::1]", b"a b", b"a\tb", b"a\0", b"[::\0001]", b"\xc3\xa9", b"[" + b"1" * 46 + b"]"),
]


@pytest.mark.parametrize("text", AUTHORITIES)
def test_good_authority_is_accepted(text):
    assert is_authority(text)


@pytest.mark.parametrize("text", BAD_AUTHORITIES)
def test_bad_authority_is_refused(text):
    assert not is_authority(text)


def slow_authority(text: bytes) -> bool:
    """uri-host [":" port] by regular expression and the standard library's addresses."""
    label = rb"[\w~!$&'()*+;=-]+"
    match = re.fullmatch(rb"(?:\[([0-9A-Fa-f:.]+)\]|((?:%b)(?:\.%b)*\.?))(?::([0-9]*))?" % (label, label), text)
    if match is None or (match[3] and int(match[3]) > 65535):
        return False
    if match[1] is None:
        return True
    try:
        return bool(ipaddress.IPv6Address(match[1].decode()))
    except ValueError:
        return False


@given(st.lists(st.sampled_from([*map(bytes, zip(b"a1.:[]@%f/,_")), b"::", b"ffff", b"80", b"1.2.3.4", b"\xe9"])))
@settings(max_examples=1500)
def test_authority_is_judged_as_the_reference_does(parts):
    text = b"".join(parts)
    assert is_authority(text) == slow_authority(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"A.Test", b"a.test"),
        (b"a.test.", b"a.test"),
        (b"a.test.:80", b"a.test:80"),
        (b"a.test:", b"a.test"),
        (b"a.test.:", b"a.test"),
        (b"a:080", b"a:080"),
        (b"1.2.3.4.", b"1.2.3.4"),
        (b"123", b"123"),
        (b"[::FFFF:1.2.3.4]", b"[::ffff:1.2.3.4]"),
        (b"[::1]:80", b"[::1]:80"),
        (b"[::1]:", b"[::1]"),
    ],
)
def test_a_name_has_one_spelling(text, expected):
    assert settled(text) == expected
    assert settled(expected) == expected


@given(st.lists(st.sampled_from([*map(bytes, zip(b"aB1.:[]")), b"::", b"80"]), min_size=1))
@settings(max_examples=1000)
def test_settling_twice_changes_nothing_more(parts):
    text = b"".join(parts)
    if is_authority(text):
        once = settled(text)
        assert is_authority(once)
        assert settled(once) == once
