"""The first message of TLS clients: read right, however it comes, beside a slow reference; hellos of OpenSSL."""

import ssl
import struct
from collections.abc import Iterator

import pytest
import slow_client_hello
from guarded import Guarded
from hypothesis import given, settings
from hypothesis import strategies as st

from pingora_c.prelude.client_hello import parse

INCOMPLETE, ABSENT, BAD, TOO_LONG = 0, -1, -2, -3


def hello_of(name: str | None, protocols: tuple[str, ...] = (), most: int = 0x304) -> bytes:
    """The hello that OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion(most)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def vector(octets: int, data: bytes) -> bytes:
    return len(data).to_bytes(octets, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack("!H", kind) + vector(2, data)


NAME = extension(0, vector(2, b"\0" + vector(2, b"a.example")))
ALPN = extension(16, vector(2, vector(1, b"h2") + vector(1, b"http/1.1")))


def message(*extensions: bytes, session: bytes = b"", suites: bytes = b"\x13\x01", compression: bytes = b"\0") -> bytes:
    body = b"\x03\x03" + bytes(32) + vector(1, session) + vector(2, suites) + vector(1, compression)
    body += vector(2, b"".join(extensions)) if extensions else b""
    return b"\x01" + vector(3, body)


def records(data: bytes, size: int = 16384) -> bytes:
    return b"".join(b"\x16\x03\x01" + vector(2, data[at : at + size]) for at in range(0, len(data), size))


PADDING = 16384 - len(message(NAME, extension(21, b"")))
READ = [
    ("name_and_protocols", records(message(NAME, ALPN)), b"a.example", b"\x02h2\x08http/1.1"),
    ("neither", records(message(extension(43, b"\x02\x03\x04"))), b"", b""),
    ("without_extensions", records(message()), b"", b""),
    ("in_records_of_7_bytes", records(message(NAME), 7), b"a.example", b""),
    ("session_id_of_32_bytes", records(message(NAME, session=bytes(32))), b"a.example", b""),
    ("message_of_16384_bytes", records(message(NAME, extension(21, bytes(PADDING)))), b"a.example", b""),
]
REFUSED = [
    ("http", b"GET / HTTP/1.1\r\n", ABSENT),
    ("proxy_header", b"PROXY ", ABSENT),
    ("sslv2", b"\x80\x2e\x01\x03", ABSENT),
    ("other_major_version", b"\x16\x02\x01", ABSENT),
    ("alert_behind_first_record", records(message(NAME)[:9]) + b"\x15\x03\x01", BAD),
    ("server_hello", records(b"\x02" + message(NAME)[1:]), BAD),
    ("empty_record", b"\x16\x03\x01\0\0" + records(message(NAME)), BAD),
    ("record_of_16385_bytes", b"\x16\x03\x01" + vector(2, bytes(16385)), BAD),
    ("message_of_16385_bytes", records(message(NAME, extension(21, bytes(PADDING + 1)))), TOO_LONG),
    ("65_records", records(message(NAME, extension(21, bytes(100))), 2), TOO_LONG),
    ("more_in_the_record", b"\x16\x03\x01" + vector(2, message(NAME) + b"\x01"), BAD),
    ("byte_behind_the_extensions", records(b"\x01" + vector(3, message(NAME)[4:] + b"\0")), BAD),
    ("two_names", records(message(NAME, NAME)), BAD),
    ("two_lists_of_protocols", records(message(ALPN, ALPN)), BAD),
    ("empty_name", records(message(extension(0, vector(2, b"\0" + vector(2, b""))))), BAD),
    ("name_with_nul", records(message(extension(0, vector(2, b"\0" + vector(2, b"a\0b"))))), BAD),
    ("name_of_256_bytes", records(message(extension(0, vector(2, b"\0" + vector(2, b"a" * 256))))), BAD),
    ("name_of_another_type", records(message(extension(0, vector(2, b"\1" + vector(2, b"a"))))), BAD),
    ("list_of_two_names", records(message(extension(0, vector(2, (b"\0" + vector(2, b"a")) * 2)))), BAD),
    ("empty_protocol", records(message(extension(16, vector(2, vector(1, b""))))), BAD),
    ("empty_list_of_protocols", records(message(extension(16, vector(2, b"")))), BAD),
    ("no_suite", records(message(NAME, suites=b"")), BAD),
    ("half_a_suite", records(message(NAME, suites=b"\x13\x01\x13")), BAD),
    ("no_compression", records(message(NAME, compression=b"")), BAD),
    ("session_id_of_33_bytes", records(message(NAME, session=bytes(33))), BAD),
    ("ssl_2_version_inside", records(message(NAME)[:4] + b"\x02" + message(NAME)[5:]), BAD),
]


def by_name(rows: list[tuple]) -> dict[str, object]:
    return {"argvalues": [row[1:] for row in rows], "ids": [row[0] for row in rows]}


def first_verdict(data: bytes, step: int) -> tuple[int, object, object]:
    for end in range(step, len(data), step):
        result = parse(data[:end])
        if result[0] != INCOMPLETE:
            return result
    return parse(data)


@pytest.mark.parametrize(("data", "name", "protocols"), **by_name(READ))
def test_good_hello_is_read(data, name, protocols):
    assert parse(data) == (len(data), name, protocols)
    assert parse(data + b"\x17\x03\x03") == (len(data), name, protocols)


@pytest.mark.parametrize(("data", "code"), **by_name(REFUSED))
def test_bad_hello_is_refused(data, code):
    assert parse(data) == (code, None, None)


@pytest.mark.parametrize("most", [0x303, 0x304], ids=["tls12", "tls13"])
@pytest.mark.parametrize("name", ["www.example.com", None], ids=["name", "no_name"])
def test_what_openssl_sends_is_read(name, most):
    data = hello_of(name, ("h2", "http/1.1"), most)
    assert parse(data) == (len(data), (name or "").encode(), b"\x02h2\x08http/1.1")
    assert {parse(data[:end])[0] for end in range(len(data))} == {INCOMPLETE}


@pytest.mark.parametrize("row", READ + REFUSED, ids=lambda row: row[0])
def test_result_does_not_depend_on_how_the_bytes_arrive(row):
    expected = slow_client_hello.parse(row[1])
    for step in (1, 2, 3, 7, 1000) if len(row[1]) < 1000 else (997, 5000):
        assert first_verdict(row[1], step) == expected, step


@pytest.mark.parametrize("row", READ + REFUSED, ids=lambda row: row[0])
def test_nothing_beyond_the_bytes_is_read(row):
    guarded = Guarded()
    for end in range(0, len(row[1]) + 1, 1 if len(row[1]) < 1000 else 997):
        piece = row[1][:end]
        assert parse(guarded.at_end(piece)) == parse(guarded.at_start(piece)) == slow_client_hello.parse(piece)


def changed(base: bytes) -> Iterator[bytes]:
    for at in range(len(base) + 1):
        yield base[:at]
        yield base[:at] + base[at + 1 :]
        for octet in range(0, 256, 3):
            yield base[:at] + bytes([octet]) + base[at:]
            yield base[:at] + bytes([octet]) + base[at + 1 :]


def test_every_change_of_one_byte_is_judged_as_the_reference_does():
    for data in changed(records(message(ALPN, NAME), 61)):
        assert parse(data) == slow_client_hello.parse(data), data


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from([NAME, ALPN, extension(10, b"\0\x02\0\x1d"), NAME[:-1], ALPN[:-1]])), st.integers(1, 99)
)
def test_whatever_comes_is_judged_as_the_reference_does(extensions, size):
    data = records(message(*extensions), size)
    assert parse(data) == slow_client_hello.parse(data)
    assert first_verdict(data, 5) == slow_client_hello.parse(data)
