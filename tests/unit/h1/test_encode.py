"""The encoder: what of a received head goes on, what is written anew, and that it fits the room."""

import copy
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingora_c.h1 import head, probe

HOP_BY_HOP = [  # RFC 9110 §7.6.1
    b"Connection",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"Transfer-Encoding",
    b"Content-Length",
    b"TE",
    b"Upgrade",
    b"HTTP2-Settings",
]


def request(*lines: bytes, start: bytes = b"GET / HTTP/1.1", **how: object) -> list[bytes]:
    """Send a request through; return the lines that come out."""
    received = probe.load_request(b"\r\n".join([start, *lines]) + b"\r\n\r\n")
    return split(probe.request_bytes(received, **how))


def response(*lines: bytes, start: bytes = b"HTTP/1.1 200 Ok", **how: object) -> list[bytes]:
    received = probe.load_response(b"\r\n".join([start, *lines]) + b"\r\n\r\n")
    return split(probe.response_bytes(received, **how))


def split(out: bytes) -> list[bytes]:
    assert out.endswith(b"\r\n\r\n")
    return out[:-4].split(b"\r\n")


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_field_of_the_connection_does_not_go_on(name):
    lines = [b"A: b", name + b": c", name.lower() + b": d", b"E: f"]
    assert request(*lines)[1:] == [b"A: b", b"E: f"]
    assert response(*lines, b"Date: x")[1:] == [b"A: b", b"E: f", b"Date: x"]


@pytest.mark.parametrize(
    "values",
    [[b"x-a"], [b"close, X-A"], [b",, x-a\t,"], [b"close", b"x-A"], [b",".join([b"b"] * 63 + [b"x-a"])]],
    ids=["alone", "second", "among_empty_ones", "second_field", "last_of_64"],
)
def test_field_that_connection_names_does_not_go_on(values):
    lines = [b"X-A: b", b"X-AB: c", *(b"Connection: " + value for value in values), b"x-a: d"]
    assert request(*lines)[1:] == [b"X-AB: c"]
    assert response(*lines, b"Date: x")[1:] == [b"X-AB: c", b"Date: x"]


@pytest.mark.parametrize(
    "name",
    [b"X-Forwarded", b"X-Forwarded-Prefix", b"x_forwarded-client_cert", b"X-Forwarded-Tls-Client-Cert", b"X_REAL_IP"],
)
def test_field_that_tells_who_the_client_is_goes_on_only_from_a_trusted_sender(name):
    lines = [b"X-Forward: a", name + b": b", b"X-Forwardedfor: c", b"X-Real-IPs: d"]
    dropped = request(*lines, client=b"1.2.3.4")
    assert [line for line in lines if line not in dropped] == [lines[1]]
    assert set(lines) <= set(request(*lines, client=b"1.2.3.4", is_trusted=True))


def test_host_and_date_cannot_be_named_away():
    assert request(b"Host: a", b"Connection: host")[1:] == [b"Host: a"]
    assert response(b"Date: x", b"Connection: date")[1:] == [b"Date: x"]


@pytest.mark.parametrize(
    ("how", "lines"),
    [
        ({}, []),
        ({"framing": "close"}, []),
        ({"framing": "length"}, [b"Content-Length: 0"]),
        ({"framing": "length", "length": 2**63 - 1}, [b"Content-Length: 9223372036854775807"]),
        ({"framing": "chunked"}, [b"Transfer-Encoding: chunked"]),
        ({"close": True}, [b"Connection: close"]),
        ({"keep_alive": True}, [b"Connection: keep-alive"]),
        ({"framing": "chunked", "close": True}, [b"Transfer-Encoding: chunked", b"Connection: close"]),
    ],
)
def test_framing_is_written_anew(how, lines):
    received = [b"Content-Length: 5", b"Connection: x", b"Date: x"]
    assert request(*received, **how)[1:] == [b"Date: x", *lines]
    assert response(*received, **how)[1:] == [b"Date: x", *lines]


def test_a_field_that_a_hook_adds_cannot_be_named_away():
    received = probe.load_request(b"GET / HTTP/1.1\r\nHost: a\r\nX-User: root\r\nConnection: x-user\r\n\r\n")
    assert "x-user" not in received.headers
    received.headers["x-user"] = "guest"
    assert split(probe.request_bytes(received))[1:] == [b"Host: a", b"x-user: guest"]


def test_fields_of_a_trusted_sender_that_tell_who_forwarded_cannot_be_named_away():
    lines = [
        b"X-Forwarded-Proto: https",
        b"Connection: x-forwarded-proto, x-forwarded-for",
        b"X-Forwarded-For: 1.1.1.1",
    ]
    out = request(*lines, client=b"9.9.9.9", is_trusted=True)
    assert out[1:] == [b"X-Forwarded-Proto: https", b"X-Forwarded-For: 1.1.1.1, 9.9.9.9"]


def test_upgrade_goes_on_with_all_its_protocols():
    lines = [b"Upgrade: a/1", b"Connection: upgrade", b"Upgrade: b", b"Date: x"]
    expected = [b"Date: x", b"Upgrade: a/1", b"Upgrade: b", b"Connection: upgrade"]
    assert request(*lines, is_upgrade=True)[1:] == expected
    assert response(*lines, start=b"HTTP/1.1 101 Switching", is_upgrade=True)[1:] == expected


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/a%2f?b", b"/a%2f?b"),
        (b"GET", b"//a/b", b"//a/b"),
        (b"OPTIONS", b"*", b"*"),
        # RFC 9112 §3.2.1, §3.2.4: an origin gets origin form, and "*" for OPTIONS without path and query
        (b"GET", b"http://a/b?c", b"/b?c"),
        (b"GET", b"HTTPS://a.b:80/c", b"/c"),
        (b"GET", b"http://a", b"/"),
        (b"GET", b"http://a?b/c", b"/?b/c"),
        (b"OPTIONS", b"http://a", b"*"),
        (b"OPTIONS", b"http://a/", b"/"),
        (b"OPTIONS", b"http://a?b", b"/?b"),
    ],
)
def test_target_goes_to_the_origin_in_the_form_it_expects(method, target, expected):
    out = request(start=method + b" " + target + b" HTTP/1.1")
    assert out == [method + b" " + expected + b" HTTP/1.1"]


def test_version_is_our_own():
    assert request(start=b"GET / HTTP/1.0") == [b"GET / HTTP/1.1"]
    assert response(b"Date: x", start=b"HTTP/1.0 404 Gone Fishing")[0] == b"HTTP/1.1 404 Gone Fishing"


def test_values_go_on_trimmed_and_otherwise_as_they_came():
    assert request(b"A:b", b"C:  d\te \xff\t ", b"F:")[1:] == [b"A: b", b"C: d\te \xff", b"F: "]


SENT = [
    b"X-Forwarded-For: 1.1.1.1",
    b"x-forwarded-for: 2.2.2.2",
    b"X-Forwarded-Host: h",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Port: 1",
    b"X-Real-IP: 3.3.3.3",
    b"Forwarded: for=4.4.4.4",
    b"X_Forwarded_For: 5.5.5.5",
    b"X-Forwarded_Proto: ftp",
    b"X_Real_IP: 6.6.6.6",
]


def test_forwarding_fields_of_an_untrusted_sender_are_replaced():
    out = request(b"Host: a", *SENT, client=b"9.9.9.9")
    assert out[1:] == [b"Host: a", b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: a"]


def test_forwarding_fields_of_a_trusted_sender_are_continued():
    out = request(b"Host: a", *SENT, client=b"9.9.9.9", is_trusted=True)
    assert out[1:] == [b"Host: a", *SENT[2:], b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 9.9.9.9"]


def test_forwarding_fields_that_a_trusted_sender_left_out_are_added():
    out = request(b"Host: a", b"X-Forwarded-For:", client=b"9.9.9.9", proto=b"https", is_trusted=True)
    assert out[1:] == [b"Host: a", b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: a"]


def test_connection_cannot_name_away_what_the_proxy_adds():
    out = request(b"Host: a", b"Connection: X-Forwarded-For, x-forwarded-host", client=b"9.9.9.9")
    assert {b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-Host: a"} < set(out)


def test_forwarding_fields_are_left_alone_if_none_is_wanted():
    assert request(*SENT)[1:] == SENT


@pytest.mark.parametrize("is_removed", [False, True], ids=["never_there", "removed_by_a_hook"])
def test_response_without_date_gets_one(is_removed):  # RFC 9110 §6.6.1
    received = probe.load_response(b"HTTP/1.1 200 Ok\r\n" + b"Date: x\r\n" * is_removed + b"\r\n")
    received.headers.remove("date")
    (date,) = split(probe.response_bytes(received))[1:]
    assert date.startswith(b"Date: ")
    assert len(date) == len("Date: Tue, 24 Nov 2026 19:40:37 GMT")


def test_interim_response_gets_no_date():
    assert response(start=b"HTTP/1.1 103 Early Hints") == [b"HTTP/1.1 103 Early Hints"]


def test_missing_reason_is_the_standard_one():
    assert response(b"Date: x", start=b"HTTP/1.1 404")[0] == b"HTTP/1.1 404 Not Found"
    assert response(b"Date: x", start=b"HTTP/1.1 599 ")[0] == b"HTTP/1.1 599 "


def test_every_status_has_the_phrase_of_the_standard_library():
    for status in range(700):
        known = status in {known.value for known in HTTPStatus}
        assert probe.phrase(status) == (HTTPStatus(status).phrase if known else "")


def test_edits_are_what_goes_out():
    received = probe.load_request(b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\nx-a: 3\r\n\r\n")
    received.target = "/a/longer/one"
    received.method = "PURGE"
    del received.headers["x-b"]
    received.headers["X-A"] = "a longer value"
    received.headers.add("X-C", "4")
    lines = [b"PURGE /a/longer/one HTTP/1.1", b"Host: a", b"X-A: a longer value", b"X-C: 4"]
    assert split(probe.request_bytes(received)) == lines
    assert split(probe.request_bytes(copy.copy(received))) == lines


@pytest.mark.parametrize("size", [0, 1, 9, 10, 15, 16, 255, 4096, 2**32, 2**63 - 1, 2**64 - 1])
def test_chunk_line_is_the_size_in_hexadecimal(size):
    assert probe.chunk_line(size, True) == b"%x\r\n" % size
    assert probe.chunk_line(size, False) == b"\r\n%x\r\n" % size


names = st.sampled_from(
    [b"Host", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Upgrade", b"Connection", b"Date", b"A"]
)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30).map(str.encode)
field_lists = st.lists(st.tuples(names, values), max_size=12)
ways = st.fixed_dictionaries(
    {
        "framing": st.sampled_from(["none", "length", "chunked", "close"]),
        "length": st.integers(0, 2**63 - 1),
        "is_upgrade": st.booleans(),
        "close": st.booleans(),
        "keep_alive": st.booleans(),
    }
)
senders = st.fixed_dictionaries(
    {
        "client": st.sampled_from([None, b"1.2.3.4", b"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"]),
        "is_trusted": st.booleans(),
    }
)


@given(fields=field_lists, way=ways, sender=senders, edits=field_lists)
@settings(max_examples=400)
def test_what_is_written_fits_the_room_and_is_a_head_again(fields, way, sender, edits):
    lines = b"".join(b"%s:%s\r\n" % pair for pair in fields)
    sent = probe.load_request(b"GET /a HTTP/1.1\r\n" + lines + b"\r\n")
    answer = probe.load_response(b"HTTP/1.1 200 Ok\r\n" + lines + b"\r\n")
    for name, value in edits:
        if name not in (b"Upgrade", b"Connection"):
            sent.headers[name] = b"h:1" if name == b"Host" else value
            answer.headers.add(name, value)
    out = probe.request_bytes(sent, **way, **sender)  # raises if the room is passed
    size, method, target, minor, found = head.parse_request(out)
    assert (size, method, target, minor) == (len(out), b"GET", b"/a", 1)
    kept = [name.lower() for name, _, _ in found]
    assert kept.count(b"content-length") == (way["framing"] == "length")
    assert kept.count(b"transfer-encoding") == (way["framing"] == "chunked")
    assert kept.count(b"connection") == (way["is_upgrade"] or way["close"] or way["keep_alive"])
    if sender["client"] and not sender["is_trusted"]:
        assert [value for name, value, _ in found if name == b"X-Forwarded-For"] == [sender["client"]]
    out = probe.response_bytes(answer, **way)
    assert head.parse_response(out)[:2] == (len(out), 200)


def test_head_that_is_mostly_one_value_fits_although_it_is_written_twice():
    host = b"h" * 60000
    out = request(b"Host: " + host, client=b"9.9.9.9")
    assert out[1:] == [
        b"Host: " + host,
        b"X-Forwarded-For: 9.9.9.9",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: " + host,
    ]
