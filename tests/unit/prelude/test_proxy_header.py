"""The PROXY protocol: what is accepted and refused, however the bytes arrive, beside a slow reference."""

import ipaddress
import struct
from collections.abc import Iterator

import pytest
import slow_proxy_header
from guarded import Guarded
from hypothesis import given, settings
from hypothesis import strategies as st

from pingora_c.prelude import proxy_header
from pingora_c.prelude.proxy_header import encode, parse

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = ipaddress.IPv4Address("192.0.2.1").packed
V4_OTHER = ipaddress.IPv4Address("203.0.113.9").packed
V6 = ipaddress.IPv6Address("2001:db8::1").packed
V6_OTHER = ipaddress.IPv6Address("2001:db8:ffff:ffff:ffff:ffff:ffff:fffe").packed


def binary(family: int, addresses: bytes, tlvs: bytes = b"", command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses) + len(tlvs)) + addresses + tlvs


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(family: int, addresses: bytes) -> bytes:
    zeroed = binary(family, addresses, tlv(3, bytes(4)))
    return zeroed[:-4] + struct.pack("!I", slow_proxy_header.crc32c(zeroed))


INET = V4 + V4_OTHER + struct.pack("!HH", 56324, 443)
INET6 = V6 + V6_OTHER + struct.pack("!HH", 56324, 443)
UNIX = b"/run/a.sock".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")
PLACES = ((V4, 56324), (V4_OTHER, 443))
PLACES6 = ((V6, 56324), (V6_OTHER, 443))
LONGEST = b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n"  # 107 bytes

ACCEPTED = [
    ("line_tcp4", b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n", (1, False, *PLACES, ())),
    (
        "line_tcp6",
        b"PROXY TCP6 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:fffe 56324 443\r\n",
        (1, False, *PLACES6, ()),
    ),
    (
        "line_with_mapped_address",
        b"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 65535\r\n",
        (
            1,
            False,
            (ipaddress.IPv6Address("::ffff:192.0.2.1").packed, 0),
            (ipaddress.IPv6Address("::1").packed, 65535),
            (),
        ),
    ),
    ("line_unknown", b"PROXY UNKNOWN\r\n", (1, False, None, None, ())),
    ("line_unknown_with_addresses", b"PROXY UNKNOWN ffff::1 \xff\0 1 2\r\n", (1, False, None, None, ())),
    ("line_of_107_bytes", LONGEST, (1, False, None, None, ())),
    ("binary_inet", binary(0x11, INET), (2, False, *PLACES, ())),
    ("binary_inet6", binary(0x21, INET6), (2, False, *PLACES6, ())),
    ("binary_unix", binary(0x31, UNIX), (2, False, b"/run/a.sock", b"\0abstract", ())),
    ("binary_unix_unnamed", binary(0x31, bytes(216)), (2, False, b"", b"", ())),
    ("binary_unix_of_108_bytes", binary(0x31, b"/" * 216), (2, False, b"/" * 108, b"/" * 108, ())),
    ("binary_local", binary(0x00, b"", command=0x20), (2, True, None, None, ())),
    ("binary_local_with_what_is_ignored", binary(0xEE, b"anything", command=0x20), (2, True, None, None, ())),
    ("binary_unspecified", binary(0x00, b"\xff" * 9), (2, False, None, None, ())),
    (
        "binary_with_tlvs",
        binary(0x11, INET, tlv(1, b"h2") + tlv(2, b"example.com") + tlv(4, b"") + tlv(5, b"i" * 128) + tlv(0xE0, b"x")),
        (2, False, *PLACES, ((1, b"h2"), (2, b"example.com"), (4, b""), (5, b"i" * 128), (0xE0, b"x"))),
    ),
    ("binary_with_checksum", with_checksum(0x11, INET), (2, False, *PLACES, ((3, with_checksum(0x11, INET)[-4:]),))),
    (
        "binary_of_4096_bytes",
        binary(0x11, INET, tlv(4, bytes(4096 - 16 - 12 - 3))),
        (2, False, *PLACES, ((4, bytes(4096 - 16 - 12 - 3)),)),
    ),
]

REFUSED = [
    ("http", b"GET / HTTP/1.1\r\n", "proxy_header_missing"),
    ("method_that_begins_alike", b"PROPFIND / HTTP/1.1\r\n", "proxy_header_missing"),
    ("lower_case", b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "proxy_header_missing"),
    ("tls_hello", b"\x16\x03\x01", "proxy_header_missing"),
    ("empty_lines", b"\r\n\r\nGET", "proxy_header_missing"),
    ("signature_with_other_end", SIGNATURE[:-1] + b"\r", "proxy_header_missing"),
    ("line_with_bare_lf", b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\n", "proxy_header_bad_line"),
    ("line_without_anything", b"PROXY \r\n", "proxy_header_bad_line"),
    ("line_with_other_family", b"PROXY UDP4 192.0.2.1 203.0.113.9 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_tcp5", b"PROXY TCP5 192.0.2.1 203.0.113.9 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_unknown_and_more", b"PROXY UNKNOWNS\r\n", "proxy_header_bad_line"),
    ("line_with_two_spaces", b"PROXY TCP4  192.0.2.1 203.0.113.9 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_space_behind", b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443 \r\n", "proxy_header_bad_line"),
    ("line_with_tab", b"PROXY TCP4\t192.0.2.1 203.0.113.9 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_three_words", b"PROXY TCP4 192.0.2.1 203.0.113.9 56324\r\n", "proxy_header_bad_line"),
    ("line_with_five_words", b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443 1\r\n", "proxy_header_bad_line"),
    ("line_with_octal_looking_part", b"PROXY TCP4 192.0.2.01 203.0.113.9 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_part_over_255", b"PROXY TCP4 192.0.2.256 203.0.113.9 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_three_parts", b"PROXY TCP4 192.0.2 203.0.113.9 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_five_parts", b"PROXY TCP4 192.0.2.1.1 203.0.113.9 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_dot_behind", b"PROXY TCP4 192.0.2.1. 203.0.113.9 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_wrong_family", b"PROXY TCP4 ::1 ::1 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_wrong_family_6", b"PROXY TCP6 192.0.2.1 203.0.113.9 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_zone", b"PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_nul_in_address", b"PROXY TCP6 ::1\0 ::1 56324 443\r\n", "proxy_header_bad_line"),
    ("line_with_port_over_65535", b"PROXY TCP4 192.0.2.1 203.0.113.9 65536 443\r\n", "proxy_header_bad_line"),
    ("line_with_port_with_zero_before", b"PROXY TCP4 192.0.2.1 203.0.113.9 080 443\r\n", "proxy_header_bad_line"),
    ("line_with_port_with_plus", b"PROXY TCP4 192.0.2.1 203.0.113.9 +80 443\r\n", "proxy_header_bad_line"),
    ("line_with_empty_port", b"PROXY TCP4 192.0.2.1 203.0.113.9  443\r\n", "proxy_header_bad_line"),
    ("line_of_108_bytes", b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", "proxy_header_too_long"),
    ("line_without_end", b"PROXY UNKNOWN " + b"f" * 200, "proxy_header_too_long"),
    ("binary_version_1", binary(0x11, INET, command=0x11), "proxy_header_bad_version"),
    ("binary_other_command", binary(0x11, INET, command=0x22), "proxy_header_bad_version"),
    ("binary_of_datagrams", binary(0x12, INET), "proxy_header_bad_version"),
    ("binary_other_family", binary(0x41, INET), "proxy_header_bad_version"),
    ("binary_of_4097_bytes", binary(0x11, INET, tlv(4, bytes(4097 - 16 - 12 - 3))), "proxy_header_too_long"),
    ("binary_local_of_4097_bytes", binary(0, bytes(4097 - 16), command=0x20), "proxy_header_too_long"),
    ("binary_inet_too_short", binary(0x11, INET[:-1]), "proxy_header_bad_length"),
    ("binary_inet6_too_short", binary(0x21, INET), "proxy_header_bad_length"),
    ("binary_unix_too_short", binary(0x31, UNIX[:-1]), "proxy_header_bad_length"),
    ("binary_with_a_byte_behind", binary(0x11, INET, b"\x04"), "proxy_header_bad_tlv"),
    ("binary_with_tlv_over_the_end", binary(0x11, INET, tlv(4, b"ab")[:-1]), "proxy_header_bad_tlv"),
    ("binary_with_second_tlv_cut", binary(0x11, INET, tlv(4, b"ab") + b"\x04\0"), "proxy_header_bad_tlv"),
    ("binary_with_unique_id_of_129", binary(0x11, INET, tlv(5, bytes(129))), "proxy_header_bad_tlv"),
    ("binary_with_checksum_of_3", binary(0x11, INET, tlv(3, bytes(3))), "proxy_header_bad_tlv"),
    ("binary_with_wrong_checksum", binary(0x11, INET, tlv(3, bytes(4))), "proxy_header_bad_checksum"),
]


def by_name(rows: list[tuple]) -> dict[str, object]:
    return {"argvalues": [row[1:] for row in rows], "ids": [row[0] for row in rows]}


def first_verdict(data: bytes, step: int) -> tuple[int, object]:
    """Parse as a receiver does whose bytes come in pieces: from the first on, until it is no longer incomplete."""
    for end in range(step, len(data), step):
        result = parse(data[:end])
        if result[0] != 0:
            return result
    return parse(data)


@pytest.mark.parametrize(("data", "expected"), **by_name(ACCEPTED))
def test_good_header_is_read(data, expected):
    assert parse(data) == (len(data), expected)
    assert parse(data + b"GET / HTTP/1.1\r\n") == (len(data), expected)


@pytest.mark.parametrize(("data", "reason"), **by_name(REFUSED))
def test_bad_header_is_refused(data, reason):
    code, header = parse(data)
    assert code < 0
    assert header is None
    assert proxy_header.reason(code) == reason


@pytest.mark.parametrize("data", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_every_part_of_a_good_header_is_incomplete(data):
    assert {parse(data[:end])[0] for end in range(len(data))} == {0}


@pytest.mark.parametrize("row", ACCEPTED + REFUSED, ids=lambda row: row[0])
def test_result_does_not_depend_on_how_the_bytes_arrive(row):
    expected = slow_proxy_header.parse(row[1])
    for step in (1, 2, 3, 7, 1000):
        assert first_verdict(row[1], step) == expected, step


@pytest.mark.parametrize("row", ACCEPTED + REFUSED, ids=lambda row: row[0])
def test_nothing_beyond_the_bytes_is_read(row):
    guarded = Guarded()
    for end in range(0, len(row[1]) + 1, 1 if len(row[1]) < 400 else 97):
        piece = row[1][:end]
        assert parse(guarded.at_end(piece)) == parse(guarded.at_start(piece)) == slow_proxy_header.parse(piece)


def changed(base: bytes) -> Iterator[bytes]:
    for at in range(len(base) + 1):
        yield base[:at]
        yield base[:at] + base[at + 1 :]
        for octet in range(256):
            yield base[:at] + bytes([octet]) + base[at:]
            yield base[:at] + bytes([octet]) + base[at + 1 :]


@pytest.mark.parametrize(
    "base",
    [ACCEPTED[0][1], b"PROXY TCP6 1:2::3 ::ffff:1.2.3.4 0 65535\r\n", binary(0x11, INET, tlv(5, b"id") + tlv(4, b""))],
    ids=["tcp4", "tcp6", "binary"],
)
def test_every_change_of_one_byte_is_judged_as_the_reference_does(base):
    for data in changed(base):
        assert parse(data) == slow_proxy_header.parse(data), data


WORDS = (b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"1.2.3.4 ", b"::1 ", b"80 ", b"443", b"\r\n", b"\n")
PARTS = (SIGNATURE, b"\x21", b"\x20", b"\x11", b"\x21\x00\x24", b"\x11\x00\x0c", b"\x31\x00\xd8", INET, INET6, UNIX)
PIECES = st.one_of(st.binary(max_size=8), st.sampled_from(WORDS), st.sampled_from(PARTS))


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_whatever_comes_is_judged_as_the_reference_does(data):
    expected = slow_proxy_header.parse(data)
    assert parse(data) == expected
    assert first_verdict(data, 1) == expected


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("places", [PLACES, PLACES6, ((V4, 0), (V4, 65535))], ids=["inet", "inet6", "ports"])
def test_what_is_encoded_is_read_again(version, places):
    encoded = encode(version, *places)
    assert parse(encoded) == slow_proxy_header.parse(encoded) == (len(encoded), (version, False, *places, ()))


def test_without_addresses_the_connections_own_are_meant():
    assert encode(1) == b"PROXY UNKNOWN\r\n"
    assert encode(2) == binary(0x00, b"", command=0x20)


def test_the_longest_line_fits():
    full = ipaddress.IPv6Address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").packed
    encoded = encode(1, (full, 65535), (full, 65535))
    assert len(encoded) == 104
    assert parse(encoded)[0] == 104
