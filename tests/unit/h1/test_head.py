"""The head parser: what it accepts and refuses, however the bytes arrive, beside a slow reference."""

from collections.abc import Callable, Iterator

import pytest
import slow_head
from guarded import Guarded
from hypothesis import given, settings
from hypothesis import strategies as st

from pingora_c.h1 import head

REQUEST = b"GET /p?q HTTP/1.1\r\nHost: a\r\nX-Y:\t z w \r\n\r\n"
RESPONSE = b"HTTP/1.1 200 Ok\r\nServer: a\r\nX-Y:\t z w \r\n\r\n"
TRAILERS = b"Digest: a=1\r\nX-Y:\t z w \r\n\r\n"
LONG = bytes(range(0x21, 0x7F)).replace(b"#", b"") * 3

Parse = Callable[..., tuple | int]

KINDS = {
    "request": (head.parse_request, slow_head.parse_request),
    "response": (head.parse_response, slow_head.parse_response),
    "trailers": (head.parse_trailers, slow_head.parse_trailers),
}
kinds = pytest.mark.parametrize(("parse", "slow"), KINDS.values(), ids=KINDS.keys())

# Each refused line of a request, the reason, and the status that answers it.
REFUSED_REQUESTS = [
    # RFC 9112 §3: method SP request-target SP HTTP-version
    ("no_target", b"GET HTTP/1.1", "bad_request_line"),
    ("no_version", b"GET /", "bad_request_line"),
    ("http_0_9", b"GET / ", "bad_request_line"),
    ("method_alone", b"GET", "bad_request_line"),
    ("lower_case_version", b"GET / http/1.1", "bad_request_line"),
    ("version_without_minor", b"GET / HTTP/1", "bad_request_line"),
    ("version_with_two_digits", b"GET / HTTP/1.10", "bad_request_line"),
    ("version_with_space_behind", b"GET / HTTP/1.1 ", "bad_request_line"),
    ("version_of_another_protocol", b"GET / ICE/1.0", "bad_request_line"),
    ("three_words_and_one", b"GET / / HTTP/1.1", "bad_request_line"),
    ("tabs_for_spaces", b"GET\t/\tHTTP/1.1", "bad_method"),
    ("two_spaces", b"GET  / HTTP/1.1", "bad_target"),
    ("space_in_front", b" GET / HTTP/1.1", "bad_method"),
    # RFC 9110 §9.1: method = token
    ("method_with_colon", b"GE:T / HTTP/1.1", "bad_method"),
    ("method_with_octet_ff", b"GET\xff / HTTP/1.1", "bad_method"),
    ("method_of_65_bytes", b"M" * 65 + b" / HTTP/1.1", "method_too_long"),
    # RFC 9112 §3.2: no white space; RFC 3986: no control, no other than ASCII, a fragment is never sent
    ("target_with_fragment", b"GET /a#b HTTP/1.1", "bad_target"),
    ("target_with_utf8", "GET /\u00e9 HTTP/1.1".encode(), "bad_target"),
    ("target_with_nul", b"GET /\0 HTTP/1.1", "bad_target"),
    ("target_with_delete", b"GET /\x7f HTTP/1.1", "bad_target"),
    ("target_with_tab", b"GET /\ta HTTP/1.1", "bad_target"),
    ("target_of_8193_bytes", b"GET " + b"/" * 8193 + b" HTTP/1.1", "target_too_long"),
    # RFC 9112 §2.3, RFC 9110 §15.6.6
    ("version_2", b"GET / HTTP/2.0", "bad_version"),
    ("version_0", b"GET / HTTP/0.9", "bad_version"),
    # RFC 9112 §2.2: a bare CR or LF is no line end; at most one empty line before
    ("bare_cr_in_target", b"GET /\r HTTP/1.1", "bad_request_line"),
    ("bare_cr_behind_version", b"GET / HTTP/1.1\rX: y", "bad_line_end"),
    ("two_empty_lines_before", b"\r\n\r\nGET / HTTP/1.1", "bad_request_line"),
    ("empty_line_with_bare_lf_before", b"\nGET / HTTP/1.1", "bad_line_end"),
]
STATUSES = {
    "target_too_long": 414,
    "bad_version": 505,
    "too_many_fields": 431,
    "head_too_large": 431,
    "method_too_long": 501,
}

REFUSED_RESPONSES = [
    # RFC 9112 §4: HTTP-version SP status-code SP [ reason-phrase ]
    ("two_digits", b"HTTP/1.1 20 Ok", "bad_status_line"),
    ("four_digits", b"HTTP/1.1 2000 Ok", "bad_status_line"),
    ("sign", b"HTTP/1.1 +20 Ok", "bad_status_line"),
    ("two_spaces", b"HTTP/1.1  200 Ok", "bad_status_line"),
    ("no_status", b"HTTP/1.1", "bad_status_line"),
    ("empty_line_before", b"\r\nHTTP/1.1 200 Ok", "bad_status_line"),
    ("shoutcast", b"ICY 200 OK", "bad_status_line"),
    ("control_in_reason", b"HTTP/1.1 200 O\x01k", "bad_status_line"),
    ("nul_in_reason", b"HTTP/1.1 200 O\0k", "bad_status_line"),
    # RFC 9110 §15: three digits, the first of 1 to 5
    ("status_099", b"HTTP/1.1 099 Low", "bad_status_line"),
    ("status_600", b"HTTP/1.1 600 High", "bad_status_line"),
    ("version_2", b"HTTP/2.0 200 Ok", "bad_version"),
    ("bare_cr_in_reason", b"HTTP/1.1 200 O\rk", "bad_line_end"),
]

REFUSED_FIELDS = [
    # RFC 9112 §5, §5.1: field-name ":" OWS field-value OWS, no white space before the colon
    ("no_colon", b"Host a", "bad_field_name"),
    ("space_before_colon", b"Host : a", "bad_field_name"),
    ("tab_before_colon", b"Host\t: a", "bad_field_name"),
    ("empty_name", b": a", "bad_field_name"),
    ("name_with_space", b"Ho st: a", "bad_field_name"),
    ("name_with_parenthesis", b"Host(): a", "bad_field_name"),
    ("name_with_octet_80", b"H\x80: a", "bad_field_name"),
    ("name_with_nul", b"H\0: a", "bad_field_name"),
    # RFC 9112 §5.2: folding is obsolete and a proxy may refuse it
    ("fold_with_space", b"A: b\r\n c: d", "bad_field_name"),
    ("fold_with_tab", b"A: b\r\n\tc: d", "bad_field_name"),
    # RFC 9110 §5.5: no CR, LF, NUL; other controls are unsafe
    ("nul_in_value", b"A: b\0c", "bad_field_value"),
    ("escape_in_value", b"A: \x1b[2J", "bad_field_value"),
    ("delete_in_value", b"A: \x7f", "bad_field_value"),
    ("bare_cr_in_value", b"A: b\rc: d", "bad_line_end"),
    ("bare_cr_before_crlf", b"A: b\r", "bad_line_end"),
    ("bare_lf_in_value", b"A: b\nC: d", "bad_line_end"),
    ("bare_lf_before_empty_line", b"A: b\n", "bad_line_end"),
    ("bare_cr_for_empty_line", b"A: b\r\n\rC: d", "bad_line_end"),
    ("bare_lf_for_empty_line", b"A: b\r\n\nC: d", "bad_line_end"),
]

ACCEPTED_REQUESTS = [
    ("origin_form", b"GET /a?b HTTP/1.1", (b"GET", b"/a?b", 1)),
    ("absolute_form", b"GET http://a:80/b HTTP/1.1", (b"GET", b"http://a:80/b", 1)),
    ("authority_form", b"CONNECT a:443 HTTP/1.1", (b"CONNECT", b"a:443", 1)),
    ("asterisk_form", b"OPTIONS * HTTP/1.1", (b"OPTIONS", b"*", 1)),
    ("version_1_0", b"GET / HTTP/1.0", (b"GET", b"/", 0)),
    ("version_1_2_is_read_as_1_1", b"GET / HTTP/1.2", (b"GET", b"/", 1)),  # RFC 9110 §2.5
    ("one_empty_line_before", b"\r\nGET / HTTP/1.1", (b"GET", b"/", 1)),  # RFC 9112 §2.2
    ("method_of_64_bytes", b"M" * 64 + b" / HTTP/1.1", (b"M" * 64, b"/", 1)),
    ("method_of_all_tchars", b"!#$%&'*+-.^_`|~09azAZ / HTTP/1.1", (b"!#$%&'*+-.^_`|~09azAZ", b"/", 1)),
    ("method_in_lower_case", b"get / HTTP/1.1", (b"get", b"/", 1)),  # RFC 9110 §9.1: another method
    ("target_of_8192_bytes", b"GET " + b"/" * 8192 + b" HTTP/1.1", (b"GET", b"/" * 8192, 1)),
    ("target_of_all_its_bytes", b"GET /" + LONG + b" HTTP/1.1", (b"GET", b"/" + LONG, 1)),
]
ACCEPTED_RESPONSES = [
    ("reason", b"HTTP/1.1 404 Not Found", (404, b"Not Found", 1)),
    ("empty_reason", b"HTTP/1.1 200 ", (200, b"", 1)),
    ("no_space_before_empty_reason", b"HTTP/1.1 200", (200, b"", 1)),  # common; RFC 9112 §4 wants the space
    ("reason_with_utf8", "HTTP/1.1 200 Ça va".encode(), (200, "Ça va".encode(), 1)),
    ("version_1_0", b"HTTP/1.0 599 x", (599, b"x", 0)),
]
ACCEPTED_FIELDS = [
    ("no_space", b"A:b", (b"A", b"b")),
    ("white_space_around", b"A: \t b\tc \t ", (b"A", b"b\tc")),
    ("empty_value", b"A:", (b"A", b"")),
    ("only_white_space", b"A: \t ", (b"A", b"")),
    ("colons_in_value", b"A::b:", (b"A", b":b:")),
    ("obs_text", b"A: \x80\xff", (b"A", b"\x80\xff")),  # RFC 9110 §5.5
    ("name_of_all_tchars", b"!#$%&'*+-.^_`|~09azAZ: b", (b"!#$%&'*+-.^_`|~09azAZ", b"b")),
]


def by_name(rows: list[tuple]) -> dict[str, object]:
    return {"argvalues": [row[1:] for row in rows], "ids": [row[0] for row in rows]}


@pytest.mark.parametrize(("line", "reason"), **by_name(REFUSED_REQUESTS))
def test_bad_request_line_is_refused(line, reason):
    verdict = head.parse_request(line + b"\r\nHost: a\r\n\r\n")
    assert isinstance(verdict, int)
    assert (head.head_reason(verdict), head.head_status(verdict)) == (reason, STATUSES.get(reason, 400))


@pytest.mark.parametrize(("line", "reason"), **by_name(REFUSED_RESPONSES))
def test_bad_status_line_is_refused(line, reason):
    verdict = head.parse_response(line + b"\r\nServer: a\r\n\r\n")
    assert isinstance(verdict, int)
    assert head.head_reason(verdict) == reason


@pytest.mark.parametrize(("line", "reason"), **by_name(REFUSED_FIELDS))
def test_bad_field_is_refused_in_a_head_and_in_trailers(line, reason):
    text = line + b"\r\n\r\n"
    for verdict in (
        head.parse_request(b"GET / HTTP/1.1\r\n" + text),
        head.parse_response(b"HTTP/1.1 200 Ok\r\n" + text),
        head.parse_trailers(text),
    ):
        assert isinstance(verdict, int)
        assert head.head_reason(verdict) == reason


@pytest.mark.parametrize(("line", "expected"), **by_name(ACCEPTED_REQUESTS))
def test_good_request_line_is_accepted(line, expected):
    data = line + b"\r\n\r\n"
    assert head.parse_request(data + b"rest") == (len(data), *expected, [])


@pytest.mark.parametrize(("line", "expected"), **by_name(ACCEPTED_RESPONSES))
def test_good_status_line_is_accepted(line, expected):
    data = line + b"\r\n\r\n"
    assert head.parse_response(data + b"rest") == (len(data), *expected, [])


@pytest.mark.parametrize(("line", "expected"), **by_name(ACCEPTED_FIELDS))
def test_good_field_is_accepted(line, expected):
    data = line + b"\r\n\r\n"
    assert head.parse_trailers(data + b"rest") == (len(data), [(*expected, 0)])


def changed(base: bytes) -> Iterator[bytes]:
    """Yield each prefix, and `base` with each byte left out, replaced and preceded by every other one."""
    for at in range(len(base) + 1):
        yield base[:at]
        yield base[:at] + base[at + 1 :]
        for octet in range(256):
            yield base[:at] + bytes([octet]) + base[at:]
            yield base[:at] + bytes([octet]) + base[at + 1 :]


@pytest.mark.parametrize("kind", KINDS)
def test_every_change_of_one_byte_is_judged_as_the_reference_does(kind):
    parse, slow = KINDS[kind]
    for data in changed({"request": REQUEST, "response": RESPONSE, "trailers": TRAILERS}[kind]):
        assert slow_head.agree(parse(data), slow(data)), data


@pytest.mark.parametrize("size", [1, 7, 15, 16, 17, 31, 32, 33, 47])
@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"", b" / HTTP/1.1\r\n\r\n"),
        (b"GET /", b" HTTP/1.1\r\n\r\n"),
        (b"GET / HTTP/1.1\r\n", b": b\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nA: ", b"\r\n\r\n"),
    ],
    ids=["method", "target", "name", "value"],
)
def test_every_octet_is_judged_in_every_lane_of_a_vector(size, before, behind):
    for at in range(size):
        for octet in range(256):
            data = before + b"a" * at + bytes([octet]) + b"a" * (size - at - 1) + behind
            assert slow_head.agree(head.parse_request(data), slow_head.parse_request(data)), data


def judge_all_ways(parse: Parse, slow: Parse, data: bytes, guarded: Guarded) -> None:
    """Judge every prefix: new, byte by byte, in two parts, flush against both unreadable pages."""
    whole = slow(data)
    assert slow_head.agree(parse(data), whole)
    seen = {"seen"} if parse is not head.parse_trailers else set()
    for size in range(len(data) + 1):
        part = data[:size]
        expected = slow(part)
        assert slow_head.agree(parse(guarded.at_end(part)), expected)
        assert slow_head.agree(parse(guarded.at_start(part)), expected)
        assert expected in (slow_head.INCOMPLETE, whole), "a verdict stands, whatever follows"
        if seen and expected == slow_head.INCOMPLETE:
            assert parse(guarded.at_end(data[: size + 1]), seen=size) == parse(data[: size + 1])
            assert parse(guarded.at_end(data), seen=size) == whole


@kinds
@pytest.mark.parametrize("vector", [0, 1, 15, 16, 40])
def test_verdict_does_not_depend_on_how_the_bytes_arrive(parse, slow, vector):
    guarded = Guarded()
    pad = b"P" * vector + b": " + b"v" * vector + b"\r\n" if vector else b""
    for name, line, *_ in REFUSED_FIELDS + ACCEPTED_FIELDS:
        start = {head.parse_request: b"\r\nGET /a HTTP/1.1\r\n", head.parse_response: b"HTTP/1.1 200 Ok\r\n"}
        data = start.get(parse, b"") + pad + line + b"\r\n\r\nrest"
        assert name
        judge_all_ways(parse, slow, data, guarded)


@pytest.mark.parametrize("row", REFUSED_REQUESTS + ACCEPTED_REQUESTS, ids=lambda row: row[0])
def test_verdict_on_a_request_line_does_not_depend_on_how_the_bytes_arrive(row):
    if len(row[1]) < 500:
        judge_all_ways(head.parse_request, slow_head.parse_request, row[1] + b"\r\n\r\nrest", Guarded())


@pytest.mark.parametrize("row", REFUSED_RESPONSES + ACCEPTED_RESPONSES, ids=lambda row: row[0])
def test_verdict_on_a_status_line_does_not_depend_on_how_the_bytes_arrive(row):
    judge_all_ways(head.parse_response, slow_head.parse_response, row[1] + b"\r\n\r\nrest", Guarded())


pieces = st.sampled_from(
    b"GET HTTP/1.1 HTTP/1.0 200 Host Content-Length / : aaaaaaaaaaaaaaaaa".split()
    + b" |\t|\r\n|\r|\n|\r\n\r\n|A: b\r\n|GET / HTTP/1.1\r\n|HTTP/1.1 200 Ok\r\n|\0|\x7f|\xff".split(b"|")
)
made_up = st.lists(pieces | st.binary(max_size=3), max_size=24).map(b"".join)


@kinds
@given(data=made_up)
@settings(max_examples=400)
def test_made_up_bytes_are_judged_as_the_reference_does(parse, slow, data):
    judge_all_ways(parse, slow, data, Guarded(4096))


@kinds
@given(data=made_up, most=st.integers(1, 60), room=st.integers(0, 3))
@settings(max_examples=400)
def test_limits_hold_for_made_up_bytes_as_the_reference_has_them(parse, slow, data, most, room):
    for size in range(len(data) + 1):
        found = parse(data[:size], head_bytes=most, fields=room)
        assert slow_head.agree(found, slow(data[:size], head_bytes=most, fields=room))


@pytest.mark.parametrize(("parse", "data"), [(head.parse_request, REQUEST), (head.parse_response, RESPONSE)])
def test_head_may_be_as_large_as_its_limit_and_not_a_byte_larger(parse, data):
    assert parse(data, head_bytes=len(data)) == parse(data)
    for drip in range(len(data) - 1):
        assert parse(data[:drip], head_bytes=len(data) - 1) == slow_head.INCOMPLETE
    assert parse(data, head_bytes=len(data) - 1) == slow_head.HEAD_TOO_LARGE


def test_as_many_fields_as_there_is_room_for_are_accepted():
    data = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 128 + b"\r\n"
    assert len(head.parse_request(data)[4]) == 128
    assert head.parse_request(data, fields=127) == slow_head.TOO_MANY_FIELDS


def test_name_longer_than_its_length_can_say_is_refused():
    good, bad = (b"GET / HTTP/1.1\r\n" + b"n" * size + b": b\r\n\r\n" for size in (65535, 65536))
    assert head.parse_request(good, head_bytes=70000)[4] == [(b"n" * 65535, b"b", 0)]
    assert head.parse_request(bad, head_bytes=70000) == slow_head.HEAD_TOO_LARGE


def test_trailers_are_read_from_an_offset():
    data = b"0\r\n" + TRAILERS
    assert head.parse_trailers(data, 3) == (len(data), [(b"Digest", b"a=1", 0), (b"X-Y", b"z w", 0)])


def test_empty_trailer_section_is_one_empty_line():
    assert head.parse_trailers(b"\r\nGET") == (2, [])


def test_pages_around_the_guarded_memory_are_unreadable():
    before, memory, behind = Guarded().pages_around()
    assert (before[:2], memory[:2], behind[:2]) == ("--", "rw", "--")
