"""Access-log lines: one well-formed line whatever the client sent."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingora_c.log.access import format_line

AT_MS = 1795549237123  # 2026-11-24T19:40:37.123Z
COMBINED = re.compile(
    rb'(?P<client>\S+) - - \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>\d{3}) (?P<bytes>\d+) '
    rb'"(?P<referer>[^"]*)" "(?P<agent>[^"]*)"\n'
)
JSON_KEYS = [
    "time", "client", "method", "target", "protocol", "status", "bytes_sent", "bytes_received", "duration_ms",
    "connect_ms", "first_byte_ms", "upstream", "upstream_protocol", "attempts", "reused", "host", "user_agent",
    "referer", "request_id", "error",
]  # fmt: skip
TEXTS = ["client", "method", "target", "host", "referer", "user_agent", "request_id", "upstream"]
ANY_TEXTS = st.dictionaries(st.sampled_from(TEXTS), st.binary(max_size=3000))


def test_combined_line_is_what_nginx_writes():
    line = format_line(
        "combined", client="192.0.2.7", method="GET", target="/", status=200, sent_bytes=12, at_ms=AT_MS,
        user_agent="curl/8",
    )  # fmt: skip
    assert line == b'192.0.2.7 - - [24/Nov/2026:19:40:37 +0000] "GET / HTTP/1.1" 200 12 "-" "curl/8"\n'


def test_combined_line_without_a_request_has_dashes():
    assert format_line("combined") == b'- - - [01/Jan/1970:00:00:00 +0000] "-" 000 0 "-" "-"\n'


def test_json_line_has_every_key_in_order():
    line = format_line(
        "json", client="2001:db8::1", method="POST", target="/a?q=1", status=502, sent_bytes=7, received_bytes=8,
        at_ms=AT_MS, total_us=1234567, connect_us=89, first_byte_us=0, upstream="127.0.0.1:9001",
        upstream_protocol="h2", attempts=2, reused=True, host="example.com", user_agent="x", referer="http://a/",
        request_id="42", minor_version=0, error="upstream_reset",
    )  # fmt: skip
    parsed = json.loads(line)
    assert list(parsed) == JSON_KEYS
    assert parsed == {
        "time": "2026-11-24T19:40:37.123Z", "client": "2001:db8::1", "method": "POST", "target": "/a?q=1",
        "protocol": "HTTP/1.0", "status": 502, "bytes_sent": 7, "bytes_received": 8, "duration_ms": 1234.567,
        "connect_ms": 0.089, "first_byte_ms": 0.0, "upstream": "127.0.0.1:9001",
        "upstream_protocol": "h2", "attempts": 2, "reused": True, "host": "example.com", "user_agent": "x",
        "referer": "http://a/", "request_id": "42", "error": "upstream_reset",
    }  # fmt: skip


def test_json_line_of_nothing_is_null_where_nothing_is_known():
    parsed = json.loads(format_line("json"))
    assert list(parsed) == JSON_KEYS
    absent = [*TEXTS, "upstream_protocol", "status", "duration_ms", "connect_ms", "first_byte_ms", "error"]
    assert [key for key in JSON_KEYS if parsed[key] is None] == [key for key in JSON_KEYS if key in absent]


@pytest.mark.parametrize(
    ("octets", "combined", "in_json"),
    [
        pytest.param(b'a"b', rb"a\x22b", rb"a\"b", id="quote"),
        pytest.param(b"a\\b", rb"a\x5Cb", rb"a\\b", id="backslash"),
        pytest.param(b"a\r\nb", rb"a\x0D\x0Ab", rb"a\u000D\u000Ab", id="line end"),
        pytest.param(b"\x00\x1b[31m", rb"\x00\x1B[31m", rb"\u0000\u001B[31m", id="terminal escape"),
        pytest.param(b"\x7f", rb"\x7F", rb"\u007F", id="delete"),
        pytest.param("é".encode(), rb"\xC3\xA9", rb"\u00C3\u00A9", id="utf-8"),
        pytest.param(b"\xff\xfe", rb"\xFF\xFE", rb"\u00FF\u00FE", id="not utf-8"),
    ],
)
def test_client_bytes_are_escaped(octets, combined, in_json):
    assert b'"%s"\n' % combined in format_line("combined", user_agent=octets)
    assert b'"user_agent":"%s"' % in_json in format_line("json", user_agent=octets)


@given(texts=ANY_TEXTS, room=st.integers(1024, 20000))
def test_any_bytes_give_one_line_of_combined_format(texts, room):
    line = format_line("combined", room=room, at_ms=AT_MS, **texts)
    assert len(line) <= room
    assert line.count(b"\n") == 1
    assert all(0x20 <= octet < 0x7F for octet in line[:-1])
    if not any(b" " in text for text in texts.values()):
        assert COMBINED.fullmatch(line)


@given(texts=ANY_TEXTS, room=st.integers(1024, 20000))
def test_any_bytes_give_one_json_object_that_holds_them(texts, room):
    line = format_line("json", room=room, at_ms=AT_MS, error=b"reason", **texts)
    assert len(line) <= room
    assert line.count(b"\n") == 1
    parsed = json.loads(line)
    assert list(parsed) == JSON_KEYS
    for name, octets in texts.items():
        logged = (parsed[name] or "").encode("latin-1")
        assert logged == octets or (logged.endswith(b"...") and octets.startswith(logged[:-3]))


@pytest.mark.parametrize("style", ["combined", "json"])
@pytest.mark.parametrize("octet", [b"a", b'"', b"\xff"], ids=["plain", "quote", "high"])
def test_text_is_cut_only_past_its_share(style, octet):
    width = len(format_line(style, referer=octet * 2)) - len(format_line(style, referer=octet))
    share = (4096 - 640) // 16
    whole = octet * (share // width)
    assert b"..." not in format_line(style, room=4096, referer=whole)
    assert b"..." in format_line(style, room=4096, referer=whole + octet)


def test_longest_values_of_all_numbers_fit_the_least_room():
    most = dict.fromkeys(["sent_bytes", "received_bytes"], 2**64 - 1) | {"attempts": 2**32 - 1, "status": 65535}
    times = dict.fromkeys(["total_us", "connect_us", "first_byte_us"], 2**63 - 1) | {"at_ms": 2**63 - 1}
    texts = dict.fromkeys([*TEXTS, "error"], b"\xff" * 100)
    for style in ("combined", "json"):
        assert len(format_line(style, room=1024, minor_version=255, reused=False, **most, **times, **texts)) <= 1024
    parsed = json.loads(format_line("json", **most, **times))
    assert parsed["time"] == "9999-12-31T23:59:59.999Z"
    assert parsed["bytes_sent"] == 2**64 - 1


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        pytest.param(-1, "1970-01-01T00:00:00.000Z", id="before the epoch"),
        pytest.param(951782400000, "2000-02-29T00:00:00.000Z", id="leap day"),
        pytest.param(1798761599999, "2026-12-31T23:59:59.999Z", id="end of a year"),
        pytest.param(1798761600000, "2027-01-01T00:00:00.000Z", id="start of a year"),
    ],
)
def test_time_is_utc(at_ms, text):
    assert json.loads(format_line("json", at_ms=at_ms))["time"] == text


@pytest.mark.parametrize(
    ("style", "fields", "error"),
    [
        pytest.param("common", {}, ValueError, id="unknown format"),
        pytest.param("json", {"room": 1023}, ValueError, id="too little room"),
        pytest.param("json", {"room": -1}, ValueError, id="negative room"),
        pytest.param("json", {"cookie": "a"}, TypeError, id="unknown field"),
    ],
)
def test_wrong_use_is_refused(style, fields, error):
    with pytest.raises(error):
        format_line(style, **fields)
