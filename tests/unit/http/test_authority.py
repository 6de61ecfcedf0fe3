"""Hosts with ports: the grammar, beside a slow reference."""

import ipaddress
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingora_c.http.authority import is_authority

# RFC 3986 §3.2.2
AUTHORITIES = [
    *b"a a.b a. A-b_c~d 1.2.3.4 999.1 a:0 a:65535 a:00080 a: %41 !$&'()*+;= [::] [::1]:1 [1:2:3:4:5:6:7:8]".split(),
    *b"[::ffff:1.2.3.4]:80 [ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]".split(),
]
BAD_AUTHORITIES = [
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
    match = re.fullmatch(rb"(?:\[([0-9A-Fa-f:.]+)\]|((?:[\w.~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+))(?::([0-9]*))?", text)
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
