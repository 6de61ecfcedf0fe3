"""Framing: how long a body is, whether the connection lives on."""

import itertools
import re

import pytest

from pingora_c.h1 import framing, verdict

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
    # receivers that read `_` as `-` would frame by these
    ("length_with_underscore", [(b"Content_Length", b"5")], "framing_alias"),
    ("coding_with_underscore", [(b"transfer_Encoding", b"chunked")], "framing_alias"),
    # RFC 9110 §7.8: Upgrade = #protocol, protocol = token ["/" token]
    ("upgrade_with_space", [(b"Upgrade", b"web socket")], "bad_upgrade"),
    ("upgrade_without_name", [(b"Upgrade", b"/1")], "bad_upgrade"),
    ("upgrade_without_version", [(b"Upgrade", b"a/")], "bad_upgrade"),
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
    ("reset_content_with_length_zero", 205, length(b"0"), {}, "none", True),
    ("reset_content_chunked", 205, coding(b"chunked"), {}, "chunked", True),
    ("reset_content_to_head", 205, length(b"5"), {"to_head": True}, "none", True),
]

UNEXPECTED = [
    # RFC 9112 §6.1 and RFC 9110 §8.6: neither field in 1xx and 204; RFC 9110 §7.8: 101 only when asked for
    ("chunked_interim", 100, coding(b"chunked"), {}),
    ("chunked_no_content", 204, coding(b"chunked"), {}),
    ("interim_with_length", 103, length(b"5"), {}),
    ("no_content_with_length", 204, length(b"5"), {}),
    # RFC 9110 §15.3.6
    ("reset_content_with_length", 205, length(b"5"), {}),
    ("upgrade_not_asked_for", 101, [], {}),
    ("upgrade_with_length", 101, length(b"5"), {"to_upgrade": True}),
    ("upgrade_to_nothing", 101, connection(b"upgrade"), {"to_upgrade": True}),
    ("upgrade_without_connection", 101, [(b"Upgrade", b"a")], {"to_upgrade": True}),
]


def by_name(rows: list[tuple]) -> dict[str, object]:
    return {"argvalues": [row[1:] for row in rows], "ids": [row[0] for row in rows]}


@pytest.mark.parametrize(("fields", "reason"), **by_name(REFUSED))
def test_ambiguous_head_is_refused_from_either_side(fields, reason):
    for result in (framing.request_body(fields), framing.response_body(fields, 200)):
        assert isinstance(result, int)
        assert verdict.reason_of(result) == reason
        assert verdict.status_of(result) == (501 if reason == "unknown_transfer_coding" else 400)


def test_transfer_encoding_in_http_1_0_is_refused():  # RFC 9112 §6.1
    for result in (framing.request_body(coding(b"chunked"), 0), framing.response_body(coding(b"chunked"), 200, 0)):
        assert result == -5
    assert verdict.reason_of(-5) == "coding_in_http10"


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
    assert {"kind": kind, "length": size}.items() <= framing.request_body(fields).items()
    assert framing.request_body(fields)["has_length"] == bool(fields and fields[0][0] == b"Content-Length")


@pytest.mark.parametrize(("minor", "values", "expected"), **by_name(PERSISTENCE))
def test_connection_persists_as_version_and_options_say(minor, values, expected):
    assert framing.request_body(connection(*values), minor)["keep_alive"] is expected
    assert framing.response_body(connection(*values) + length(b"0"), 200, minor)["keep_alive"] is expected


@pytest.mark.parametrize(
    ("minor", "fields", "expected"),
    [
        (1, [(b"Upgrade", b"websocket"), *connection(b"Upgrade")], True),
        (1, [(b"Upgrade", b"websocket"), *connection(b"keep-alive, upgrade")], True),
        (1, [(b"Upgrade", b"websocket")], False),
        (1, connection(b"upgrade"), False),
        (0, [(b"Upgrade", b"websocket"), *connection(b"upgrade")], False),  # RFC 9110 §7.8
        (1, [(b"Upgrade", b" , a/1,"), *connection(b"upgrade")], True),
        (1, [(b"Upgrade", b","), *connection(b"upgrade")], False),
        (1, [(b"Upgrade", b"a"), *connection(b"upgrade"), *length(b"0")], True),
        (1, [(b"Upgrade", b"a"), *connection(b"upgrade"), *length(b"1")], False),
        (1, [(b"Upgrade", b"a"), *connection(b"upgrade"), *coding(b"chunked")], False),
        *[
            (1, [(b"Upgrade", protocol), *connection(b"upgrade")], False)
            for protocol in (b"h2c", b"H2", b"HTTP/2.0", b"TLS/1.0", b"websocket, h2c")
        ],
    ],
)
def test_upgrade_takes_both_fields_http_1_1_and_no_body_and_leads_to_no_other_http(minor, fields, expected):
    assert framing.request_body(fields, minor)["upgrade"] is expected


@pytest.mark.parametrize(
    ("value", "minor", "body", "expected"),
    [
        (b"100-continue", 1, length(b"5"), True),
        (b"100-Continue, , 100-continue", 1, coding(b"chunked"), True),
        (b"100-continue", 1, [], False),  # RFC 9110 §10.1.1: nothing follows
        (b"100-continue", 0, length(b"5"), False),  # RFC 9110 §10.1.1: ignored
        (b"else", 0, length(b"5"), False),
        (b"", 1, length(b"5"), False),
        (b"else", 1, [], "unknown_expectation"),
        (b"100-continue, else=1", 1, length(b"5"), "unknown_expectation"),
        (b'"100-continue"', 1, length(b"5"), "unknown_expectation"),
    ],
)
def test_expectation_is_100_continue_before_a_body_or_unknown(value, minor, body, expected):
    result = framing.request_body([(b"Expect", value), *body], minor)
    if isinstance(result, int):
        assert (verdict.reason_of(result), verdict.status_of(result)) == (expected, 417)
    else:
        assert result["expects"] is expected


@pytest.mark.parametrize(
    ("value", "options", "minor", "expected"),
    [
        (b"trailers", b"TE", 1, True),
        (b"gzip;q=0.5, Trailers", b"close, te", 1, True),
        (b"trailers", b"close", 1, False),  # RFC 9110 §10.1.4: it must be named
        (b"gzip", b"TE", 1, False),
        (b"trailers;q=1", b"TE", 1, False),
        (b"trailers", b"TE", 0, False),
    ],
)
def test_trailers_are_taken_where_te_says_so_and_is_named(value, options, minor, expected):
    result = framing.request_body([(b"TE", value), *connection(options)], minor)
    assert result["takes_trailers"] is expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [(b"close, keep-alive, upgrade, TE", False), (b"close, x", True), (b", ,", False), (b"content-length", True)],
)
def test_connection_names_fields_of_the_message_or_only_its_own_options(options, expected):
    assert framing.request_body(connection(options))["names_fields"] is expected


@pytest.mark.parametrize(("status", "fields", "asked", "kind", "persists"), **by_name(RESPONSES))
def test_body_of_a_response_follows_status_and_request(status, fields, asked, kind, persists):
    result = framing.response_body(fields, status, **asked)
    assert not isinstance(result, int)
    assert (result["kind"], result["keep_alive"]) == (kind, persists)


@pytest.mark.parametrize(("status", "fields", "asked"), **by_name(UNEXPECTED))
def test_body_where_there_can_be_none_is_refused(status, fields, asked):
    result = framing.response_body(fields, status, **asked)
    assert isinstance(result, int)
    assert verdict.reason_of(result) == "unexpected_transfer"


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
        result = framing.request_body(fields, minor)
        assert ("refused" if isinstance(result, int) else result["kind"]) == slow_request(list(fields), minor), fields
