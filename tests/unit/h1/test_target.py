"""Targets and Host: whom a request is for."""

import pytest

from pingora_c.h1 import target, verdict

TARGETS = [
    # RFC 9112 §3.2.1 origin form
    ("path", b"GET", b"/a?b", b""),
    ("path_that_looks_like_an_authority", b"GET", b"//a/b", b""),
    ("options_of_a_path", b"OPTIONS", b"/a", b""),
    # RFC 9112 §3.2.2 absolute form
    ("absolute", b"GET", b"http://a.b/c", b"a.b"),
    ("absolute_with_port", b"GET", b"HTTP://a:8080?c", b"a:8080"),
    ("absolute_https", b"GET", b"https://[::1]:443", b"[::1]:443"),
    # RFC 9112 §3.2.3 authority form
    ("connect", b"CONNECT", b"a:443", b"a:443"),
    ("connect_ipv6", b"CONNECT", b"[::1]:443", b"[::1]:443"),
    # RFC 9112 §3.2.4 asterisk form
    ("asterisk", b"OPTIONS", b"*", b""),
]
BAD_TARGETS = [
    ("no_slash", b"GET", b"a"),
    ("no_slash_but_query", b"GET", b"?a"),
    ("authority_without_connect", b"GET", b"a:443"),
    ("asterisk_without_options", b"GET", b"*"),
    ("asterisk_with_more", b"OPTIONS", b"*/"),
    ("options_in_lower_case", b"options", b"*"),
    ("other_scheme", b"GET", b"ftp://a/b"),
    ("scheme_without_authority", b"GET", b"http:///b"),
    ("scheme_alone", b"GET", b"http://"),
    ("scheme_with_one_slash", b"GET", b"http:/a"),
    ("userinfo", b"GET", b"http://u:p@a/b"),  # RFC 9110 §4.2.4
    ("backslash_for_slash", b"GET", b"http://a\\b/c"),
    ("bad_port", b"GET", b"http://a:65536/"),
    ("connect_to_a_path", b"CONNECT", b"/a"),
    ("connect_to_an_absolute_form", b"CONNECT", b"http://a:443"),
    ("connect_without_port", b"CONNECT", b"a"),
    ("connect_with_empty_port", b"CONNECT", b"a1:"),
    ("connect_with_digit_at_the_end_of_a_name", b"CONNECT", b"a1"),
    ("connect_ipv6_without_port", b"CONNECT", b"[::1]"),
    ("connect_to_nobody", b"CONNECT", b":443"),
]


def by_name(rows: list[tuple]) -> dict[str, object]:
    return {"argvalues": [row[1:] for row in rows], "ids": [row[0] for row in rows]}


@pytest.mark.parametrize(("method", "text", "authority"), **by_name(TARGETS))
def test_target_in_a_form_of_its_method_is_accepted(method, text, authority):
    assert target.target_authority(method, text) == authority


@pytest.mark.parametrize(("method", "text"), **by_name(BAD_TARGETS))
def test_target_in_another_form_is_refused(method, text):
    result = target.target_authority(method, text)
    assert isinstance(result, int)
    assert verdict.reason_of(result) == "bad_target_form"


@pytest.mark.parametrize(
    ("values", "minor", "reason"),
    [
        ([], 1, "no_host"),
        ([], 0, None),
        ([b"a"], 1, None),
        ([b"a"], 0, None),
        ([b"a", b"a"], 1, "many_hosts"),
        ([b"a", b"b"], 0, "many_hosts"),
        ([b""], 1, "bad_host"),
        ([b"a, b"], 1, "bad_host"),
        ([b"u@a"], 1, "bad_host"),
    ],
)
def test_host_is_there_exactly_once_and_valid(values, minor, reason):  # RFC 9112 §3.2
    result = target.host_error([(b"hOsT", value) for value in values], minor)
    assert (verdict.reason_of(result) if result else None) == reason
