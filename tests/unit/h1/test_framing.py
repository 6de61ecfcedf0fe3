"""Framing: how long a body is, whether the connection lives on, whom a request is for."""

import ipaddress
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingora_c.h1 import framing

LARGEST = 2**63 - 1


def length(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"Content-Length", value) for value in values]


def coding(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"transfer-ENCODING", value) for value in values]


def connection(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"Connection", value) for value in values]


REFUSED = [
    # RFC 9110 §8.6: Content-Length = 1*DIGIT; RFC 9112 §6.3 item 5: an invalid one is an error
    ("length_empty", length(b""), "bad_content_length"),
    ("length_plus", length(b"+5"), "bad_content_length"),
    ("length_minus", length(b"-5"), "bad_content_length"),
    ("length_hex", length(b"0x5"), "bad_content_length"),
    ("length_fraction", length(b"5.0"), "bad_content_length"),
    ("length_exponent", length(b"5e1"), "bad_content_length"),
    ("length_underscore", length(b"1_0"), "bad_content_length"),
    ("length_inner_space", length(b"1 0"), "bad_content_length"),
    ("length_full_width", length("\uff15".encode()), "bad_content_length"),
    ("length_2_to_the_63", length(b"9223372036854775808"), "bad_content_length"),
    ("length_2_to_the_64_and_5", length(b"18446744073709551621"), "bad_content_length"),
    # RFC 9112 §6.3 item 5 lets a recipient choose to accept equal ones; we do not
    ("length_list_of_equal", length(b"5, 5"), "bad_content_length"),
    ("length_twice_equal", length(b"5", b"5"), "bad_content_length"),
    ("length_twice_different", length(b"5", b"6"), "bad_content_length"),
    # RFC 9112 §6.1, §7: chunked exactly once, as the last coding
    ("chunked_twice", coding(b"chunked, chunked"), "bad_transfer_encoding"),
    ("chunked_in_two_fields", coding(b"chunked", b"chunked"), "bad_transfer_encoding"),
    ("coding_in_two_fields", coding(b"gzip", b"chunked"), "bad_transfer_encoding"),
    ("chunked_before_another", coding(b"chunked, gzip"), "bad_transfer_encoding"),
    ("chunked_with_parameter", coding(b"chunked;q=1"), "bad_transfer_encoding"),
    ("chunked_in_quotes", coding(b'"chunked"'), "bad_transfer_encoding"),
    ("coding_empty", coding(b""), "bad_transfer_encoding"),
    ("coding_with_empty_member", coding(b", chunked"), "bad_transfer_encoding"),
    ("coding_with_empty_last_member", coding(b"chunked,"), "bad_transfer_encoding"),
    ("coding_with_vertical_tab", coding(b"\x0bchunked"), "bad_transfer_encoding"),
    ("coding_with_space_inside", coding(b"chunked chunked"), "bad_transfer_encoding"),
    ("coding_unknown", coding(b"xchunked"), "unknown_transfer_coding"),
    ("coding_identity", coding(b"identity"), "unknown_transfer_coding"),
    ("coding_before_chunked", coding(b"gzip, chunked"), "unknown_transfer_coding"),
    # RFC 9112 §6.1: a sender must not send both
    ("both", length(b"5") + coding(b"chunked"), "length_and_coding"),
    ("both_other_order", coding(b"chunked") + length(b"5"), "length_and_coding"),
    ("both_with_length_zero", length(b"0") + coding(b"chunked"), "length_and_coding"),
    ("both_with_bad_coding", length(b"5") + coding(b"x"), "length_and_coding"),
    # RFC 9110 §7.6.1: Connection = #connection-option
    ("connection_quoted", connection(b'"close"'), "bad_connection"),
    ("connection_two_words", connection(b"close keep-alive"), "bad_connection"),
    ("connection_octet_80", connection(b"\x80"), "bad_connection"),
    ("connection_of_65_members", connection(b",".join([b"a"] * 65)), "bad_connection"),
    ("connection_of_65_members_in_two", connection(b",".join([b"a"] * 64), b"b"), "bad_connection"),
]

PERSISTENCE = [
    # RFC 9112 §9.3, in this order: close; HTTP/1.1; HTTP/1.0 with keep-alive
    ("1_1", 1, [], True),
    ("1_1_close", 1, [b"close"], False),
    ("1_1_close_in_capitals", 1, [b"CLOSE"], False),
    ("1_1_close_in_a_list", 1, [b"a, ,close,b"], False),
    ("1_1_close_in_the_second_field", 1, [b"keep-alive", b"close"], False),
    ("1_1_close_and_keep_alive", 1, [b"close, keep-alive"], False),
    ("1_1_name_that_contains_close", 1, [b"closed, not-close"], True),
    ("1_1_of_64_members", 1, [b",".join([b"a"] * 64)], True),
    ("1_0", 0, [], False),
    ("1_0_keep_alive", 0, [b"Keep-Alive"], True),
    ("1_0_keep_alive_and_close", 0, [b"keep-alive,close"], False),
]

# status, fields, what was asked, expected kind, persistent
RESPONSES = [
    # RFC 9112 §6.3 items 1 to 8
    ("head", 200, length(b"5"), {"to_head": True}, "none", True),
    ("head_chunked", 200, coding(b"chunked"), {"to_head": True}, "none", True),
    ("head_with_neither", 200, [], {"to_head": True}, "none", True),
    ("interim", 100, [], {}, "none", True),
    ("early_hints", 103, [], {}, "none", True),
    ("no_content", 204, [], {}, "none", True),
    ("no_content_with_length_zero", 204, length(b"0"), {}, "none", True),
    ("not_modified", 304, length(b"5"), {}, "none", True),
    ("not_modified_chunked", 304, coding(b"chunked"), {}, "none", True),
    ("connect", 200, [], {"to_connect": True}, "tunnel", False),
    ("connect_with_length", 299, length(b"5"), {"to_connect": True}, "tunnel", False),
    ("connect_refused", 403, length(b"5"), {"to_connect": True}, "length", True),
    ("upgrade", 101, [(b"Upgrade", b"a"), *connection(b"upgrade")], {"to_upgrade": True}, "tunnel", False),
    ("upgrade_declined", 200, length(b"5"), {"to_upgrade": True}, "length", True),
    ("chunked", 200, coding(b"Chunked"), {}, "chunked", True),
    ("length", 200, length(b"5"), {}, "length", True),
    ("length_zero", 200, length(b"0"), {}, "none", True),
    ("neither", 200, [], {}, "close", False),
    ("reset_content_with_neither", 205, [], {}, "close", False),
]

UNEXPECTED = [
    # RFC 9112 §6.1 and RFC 9110 §8.6: neither field in 1xx and 204; RFC 9110 §7.8: 101 only when asked for
    ("chunked_interim", 100, coding(b"chunked"), {}),
    ("chunked_no_content", 204, coding(b"chunked"), {}),
    ("interim_with_length", 103, length(b"5"), {}),
    ("no_content_with_length", 204, length(b"5"), {}),
    ("upgrade_not_asked_for", 101, [], {}),
    ("upgrade_with_length", 101, length(b"5"), {"to_upgrade": True}),
]

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


def by_name(rows: list[tuple]) -> dict[str, object]:
    return {"argvalues": [row[1:] for row in rows], "ids": [row[0] for row in rows]}


@pytest.mark.parametrize(("fields", "reason"), **by_name(REFUSED))
def test_ambiguous_head_is_refused_from_either_side(fields, reason):
    for verdict in (framing.request_body(fields), framing.response_body(fields, 200)):
        assert isinstance(verdict, int)
        assert framing.framing_reason(verdict) == reason
        assert framing.framing_status(verdict) == (501 if reason == "unknown_transfer_coding" else 400)


def test_transfer_encoding_in_http_1_0_is_refused():  # RFC 9112 §6.1
    for verdict in (framing.request_body(coding(b"chunked"), 0), framing.response_body(coding(b"chunked"), 200, 0)):
        assert verdict == -5
    assert framing.framing_reason(-5) == "coding_in_http10"


@pytest.mark.parametrize(
    ("fields", "kind", "size"),
    [
        ([], "none", 0),
        (length(b"0"), "none", 0),
        (length(b"1"), "length", 1),
        (length(b"00000000000000000000000000005"), "length", 5),
        (length(str(LARGEST).encode()), "length", LARGEST),
        (coding(b"chunked"), "chunked", 0),
        (coding(b"CHUNKED"), "chunked", 0),
    ],
)
def test_body_of_a_request_is_what_its_fields_say(fields, kind, size):
    assert framing.request_body(fields)[:2] == (kind, size)
    assert framing.request_body(fields)[4] == bool(fields and fields[0][0] == b"Content-Length")


@pytest.mark.parametrize(("minor", "values", "expected"), **by_name(PERSISTENCE))
def test_connection_persists_as_version_and_options_say(minor, values, expected):
    assert framing.request_body(connection(*values), minor)[2] is expected
    assert framing.response_body(connection(*values) + length(b"0"), 200, minor)[2] is expected


@pytest.mark.parametrize(
    ("minor", "fields", "expected"),
    [
        (1, [(b"Upgrade", b"websocket"), *connection(b"Upgrade")], True),
        (1, [(b"Upgrade", b"websocket"), *connection(b"keep-alive, upgrade")], True),
        (1, [(b"Upgrade", b"websocket")], False),
        (1, connection(b"upgrade"), False),
        (0, [(b"Upgrade", b"websocket"), *connection(b"upgrade")], False),  # RFC 9110 §7.8
        (1, [(b"Upgrade", b"h2c"), *connection(b"upgrade")], False),  # RFC 9113 §3.1
        (1, [(b"Upgrade", b"websocket, H2C"), *connection(b"upgrade")], False),
        (1, [(b"Upgrade", b"h2c2"), *connection(b"upgrade")], True),
    ],
)
def test_upgrade_takes_both_fields_and_http_1_1(minor, fields, expected):
    assert framing.request_body(fields, minor)[3] is expected


@pytest.mark.parametrize(("status", "fields", "asked", "kind", "persists"), **by_name(RESPONSES))
def test_body_of_a_response_follows_status_and_request(status, fields, asked, kind, persists):
    verdict = framing.response_body(fields, status, **asked)
    assert not isinstance(verdict, int)
    assert (verdict[0], verdict[2]) == (kind, persists)


@pytest.mark.parametrize(("status", "fields", "asked"), **by_name(UNEXPECTED))
def test_body_where_there_can_be_none_is_refused(status, fields, asked):
    verdict = framing.response_body(fields, status, **asked)
    assert isinstance(verdict, int)
    assert framing.framing_reason(verdict) == "unexpected_transfer"


@pytest.mark.parametrize(("method", "target", "authority"), **by_name(TARGETS))
def test_target_in_a_form_of_its_method_is_accepted(method, target, authority):
    assert framing.target_authority(method, target) == authority


@pytest.mark.parametrize(("method", "target"), **by_name(BAD_TARGETS))
def test_target_in_another_form_is_refused(method, target):
    verdict = framing.target_authority(method, target)
    assert isinstance(verdict, int)
    assert framing.framing_reason(verdict) == "bad_target_form"


@pytest.mark.parametrize("text", AUTHORITIES)
def test_good_authority_is_accepted(text):
    assert framing.is_authority(text)


@pytest.mark.parametrize("text", BAD_AUTHORITIES)
def test_bad_authority_is_refused(text):
    assert not framing.is_authority(text)


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
    verdict = framing.host_error([(b"hOsT", value) for value in values], minor)
    assert (framing.framing_reason(verdict) if verdict else None) == reason


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
    assert framing.is_authority(text) == slow_authority(text)


def slow_request(fields: list[tuple[bytes, bytes]], minor: int) -> str | int:
    """Return the kind of body of a request whose fields are each good or bad in themselves, or "refused"."""
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if lengths and (len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]) or int(lengths[0]) > LARGEST):
        return "refused"
    if codings and (lengths or minor == 0 or len(codings) > 1 or codings[0].lower() != b"chunked"):
        return "refused"
    if codings:
        return "chunked"
    return "length" if lengths and int(lengths[0]) else "none"


FRAMING_FIELDS = [
    *length(b"0", b"5", b"05", b"+5", b"5,5", b"9223372036854775807", b"9223372036854775808"),
    *coding(b"chunked", b"Chunked", b"gzip", b"gzip, chunked", b"chunked, chunked", b""),
    (b"Content-Lengt", b"5"),
    (b"Transfer-Encodin", b"chunked"),
]


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_every_combination_of_framing_fields_is_judged_as_the_reference_does(count, minor):
    for fields in itertools.product(FRAMING_FIELDS, repeat=count):
        verdict = framing.request_body(fields, minor)
        assert ("refused" if isinstance(verdict, int) else verdict[0]) == slow_request(list(fields), minor), fields
