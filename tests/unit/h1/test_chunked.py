"""The chunked decoder: what it accepts and refuses, however the bytes arrive, beside a slow reference."""

import itertools
from collections.abc import Iterator

import pytest
import slow_chunked
from guarded import Guarded
from hypothesis import given, settings
from hypothesis import strategies as st

from pingora_c.h1 import chunked
from pingora_c.h1.chunked import Decoder

MORE, TRAILERS = 0, 2
LINE_MAX = 4096
BASE = b'5 ; a = "x\\"y" ;b;c=d\r\nhello\r\n1\r\nx\r\n0\r\nt: u\r\n\r\n'

ACCEPTED = [
    # RFC 9112 §7.1: chunk-size = 1*HEXDIG; the sizes of all chunks are read in either case
    ("one_chunk", b"5\r\nhello\r\n0\r\n", b"hello"),
    ("two_chunks", b"5\r\nhello\r\n6\r\n world\r\n0\r\n", b"hello world"),
    ("no_payload", b"0\r\n", b""),
    ("last_chunk_of_many_zeros", b"0000000000000000\r\n", b""),
    ("size_with_leading_zeros", b"0000000000000001\r\nx\r\n0\r\n", b"x"),
    ("upper_case_size", b"A\r\n0123456789\r\n0\r\n", b"0123456789"),
    ("lower_case_size", b"a\r\n0123456789\r\n0\r\n", b"0123456789"),
    ("payload_that_looks_like_chunks", b"7\r\n0\r\n\r\n0\r\r\n0\r\n", b"0\r\n\r\n0\r"),
    # RFC 9112 §7.1.1: an unrecognised extension is ignored
    ("extension_name", b"1;a\r\nx\r\n0\r\n", b"x"),
    ("extension_token", b"1;a=b\r\nx\r\n0\r\n", b"x"),
    ("extension_quoted", b'1;a="b c\t\\"\\\\;\xff"\r\nx\r\n0\r\n', b"x"),
    ("extension_empty_quoted", b'1;a=""\r\nx\r\n0\r\n', b"x"),
    ("extension_with_bad_white_space", b"1 \t; \ta\t =\t b ; c\r\nx\r\n0\r\n", b"x"),
    ("extension_on_last_chunk", b"0;a=b;c\r\n", b""),
    ("line_of_4096_bytes", b"1;" + b"a" * (LINE_MAX - 4) + b"\r\nx\r\n0\r\n", b"x"),
]

REFUSED = [
    ("empty_size", b"\r\n", "bad_chunk_size"),
    ("size_with_plus", b"+5\r\n", "bad_chunk_size"),
    ("size_with_minus", b"-5\r\n", "bad_chunk_size"),
    ("size_with_0x", b"0x5\r\n", "bad_chunk_size"),
    ("size_with_space_before", b" 5\r\n", "bad_chunk_size"),
    ("size_with_underscore", b"1_0\r\n", "bad_chunk_size"),
    ("size_with_letter_g", b"5g\r\n", "bad_chunk_size"),
    ("size_in_full_width_digits", "\uff15\r\n".encode(), "bad_chunk_size"),
    ("size_with_nul", b"5\0\r\n", "bad_chunk_size"),
    # RFC 9112 §7.1: overflow must not be read as another size
    ("size_of_17_digits", b"00000000000000001\r\n", "bad_chunk_size"),
    ("size_of_2_to_the_63", b"8000000000000000\r\n", "bad_chunk_size"),
    ("size_of_2_to_the_64", b"10000000000000000\r\n", "bad_chunk_size"),
    # RFC 9112 §2.2: CRLF only
    ("bare_lf_behind_size", b"5\nhello\r\n", "bad_chunk_line_end"),
    ("bare_cr_behind_size", b"5\rhello\r\n", "bad_chunk_line_end"),
    ("two_cr_behind_size", b"5\r\r\nhello", "bad_chunk_line_end"),
    ("bare_lf_without_size", b"\n", "bad_chunk_line_end"),
    ("bare_lf_behind_extension", b"5;a\nhello", "bad_chunk_line_end"),
    ("bare_lf_in_quotes", b'5;a="\n"\r\nhello', "bad_chunk_line_end"),
    ("bare_lf_behind_payload", b"1\r\nx\n0\r\n", "bad_chunk_line_end"),
    ("bare_cr_behind_payload", b"1\r\nx\r0\r\n", "bad_chunk_line_end"),
    ("payload_longer_than_its_size", b"1\r\nxy\r\n0\r\n", "bad_chunk_line_end"),
    # RFC 9112 §7.1.1: chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )
    ("white_space_without_extension", b"5 \r\nhello", "bad_chunk_extension"),
    ("white_space_and_no_semicolon", b"5 a\r\nhello", "bad_chunk_extension"),
    ("empty_extension", b"5;\r\nhello", "bad_chunk_extension"),
    ("empty_extension_before_another", b"5;;a\r\nhello", "bad_chunk_extension"),
    ("extension_without_name", b"5;=b\r\nhello", "bad_chunk_extension"),
    ("extension_without_value", b"5;a=\r\nhello", "bad_chunk_extension"),
    ("extension_with_two_values", b"5;a=b=c\r\nhello", "bad_chunk_extension"),
    ("extension_with_open_quotes", b'5;a="b\r\nhello', "bad_chunk_extension"),
    ("extension_with_text_behind_quotes", b'5;a="b"c\r\nhello', "bad_chunk_extension"),
    ("extension_with_escaped_control", b'5;a="\\\x01"\r\nhello', "bad_chunk_extension"),
    ("extension_with_octet_80", b"5;\x80\r\nhello", "bad_chunk_extension"),
    ("extension_with_bare_cr", b'5;a="\r"\r\nhello', "bad_chunk_extension"),
    ("white_space_behind_extension", b"5;a \r\nhello", "bad_chunk_extension"),
    ("line_of_4097_bytes", b"1;" + b"a" * (LINE_MAX - 3) + b"\r\nx", "chunk_line_too_long"),
    ("line_without_end", b"1;" + b"a" * 10000, "chunk_line_too_long"),
]


def by_name(rows: list[tuple]) -> dict[str, object]:
    return {"argvalues": [row[1:] for row in rows], "ids": [row[0] for row in rows]}


def decode_guarded(pieces: list[bytes], guarded: Guarded, flush: str) -> tuple[int, bytes, int]:
    """Do as chunked.decode does, each piece flush against an unreadable page."""
    decoder = Decoder()
    payload = b""
    result = total = 0
    for piece in pieces:
        memory = guarded.at_end(piece) if flush == "end" else guarded.at_start(piece)
        result, consumed, spans = decoder.feed(memory)
        payload += b"".join(piece[at : at + size] for at, size in spans)
        total += consumed
        if result != MORE:
            break
        assert consumed == len(piece)
    return result, payload, total


def decode_all_ways(data: bytes, guarded: Guarded) -> None:
    """Decode whole, byte by byte, split at every offset, flush against both unreadable pages."""
    expected = slow_chunked.decode(data)
    assert chunked.decode([data]) == expected
    assert chunked.decode([bytes([octet]) for octet in data]) == expected
    for flush in ("end", "start"):
        assert decode_guarded([data], guarded, flush) == expected
        assert decode_guarded([bytes([octet]) for octet in data], guarded, flush) == expected
        for at in range(len(data) + 1):
            assert decode_guarded([data[:at], data[at:]], guarded, flush) == expected


@pytest.mark.parametrize(("data", "payload"), **by_name(ACCEPTED))
def test_good_coding_is_decoded(data, payload):
    assert chunked.decode([data + b"rest"]) == (TRAILERS, payload, len(data))
    assert chunked.decode([bytes([octet]) for octet in data]) == (TRAILERS, payload, len(data))


@pytest.mark.parametrize(("data", "reason"), **by_name(REFUSED))
def test_bad_coding_is_refused(data, reason):
    result, _, _ = chunked.decode([data])
    assert result < 0
    assert chunked.chunk_reason(result) == reason


@pytest.mark.parametrize("row", ACCEPTED + REFUSED, ids=lambda row: row[0])
def test_result_does_not_depend_on_how_the_bytes_arrive(row):
    data = row[1]
    if len(data) < 200:
        decode_all_ways(data, Guarded())
    else:
        assert chunked.decode([bytes([octet]) for octet in data]) == slow_chunked.decode(data)


def changed(base: bytes) -> Iterator[bytes]:
    for at in range(len(base) + 1):
        yield base[:at]
        yield base[:at] + base[at + 1 :]
        for octet in range(256):
            yield base[:at] + bytes([octet]) + base[at:]
            yield base[:at] + bytes([octet]) + base[at + 1 :]


def test_every_change_of_one_byte_is_judged_as_the_reference_does():
    for data in changed(BASE):
        expected = slow_chunked.decode(data)
        assert chunked.decode([data]) == expected, data
        half = len(data) // 2
        assert chunked.decode([data[:half], data[half:]]) == expected, data


pieces = st.sampled_from(
    b'0 1 5 f ; = " \\ a hello'.split() + b" |\t|\r\n|\r|\n|1\r\nx\r\n|0\r\n|5;a=b\r\nhello\r\n|\x7f|\xff".split(b"|")
)


@given(data=st.lists(pieces | st.binary(max_size=2), max_size=16).map(b"".join))
@settings(max_examples=400)
def test_made_up_bytes_are_decoded_as_the_reference_does(data):
    decode_all_ways(data, Guarded(4096))


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    extension=st.sampled_from([b"", b";a", b' ; a = "b\\""']),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
def test_what_was_coded_is_what_is_decoded(chunks, extension, cuts):
    data = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0" + extension + b"\r\n"
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[low:high] for low, high in itertools.pairwise(bounds)]
    assert chunked.decode(parts) == (TRAILERS, b"".join(chunks), len(data))


@pytest.mark.parametrize("data", [b"5\n", b"z", b"5;\r", b"1\r\nxy", b"1;" + b"a" * LINE_MAX])
def test_refusal_is_repeated_and_nothing_more_is_consumed(data):
    decoder = Decoder()
    error, _, _ = decoder.feed(data)
    assert error < 0
    assert decoder.feed(b"0\r\n") == (error, 0, [])
    assert decoder.feed(b"") == (error, 0, [])


def test_trailer_section_is_left_to_the_caller():
    decoder = Decoder()
    assert decoder.feed(b"0\r\nA: b\r\n\r\n") == (TRAILERS, 3, [])
    assert decoder.feed(b"A: b\r\n\r\n") == (TRAILERS, 0, [])


def test_no_bytes_change_nothing():
    decoder = Decoder()
    for data in (b"", b"5", b"", b"\r\n", b"", b"hel", b"", b"lo", b"", b"\r", b"", b"\n", b""):
        result, consumed, _ = decoder.feed(data)
        assert (result, consumed) == (MORE, len(data))


def test_largest_size_is_read_and_its_payload_found():
    decoder = Decoder()
    assert decoder.feed(b"7fffffffffffffff\r\nab") == (MORE, 20, [(18, 2)])
    assert decoder.feed(b"cd") == (MORE, 2, [(0, 2)])


def test_bound_of_the_size_line_counts_each_line_anew():
    line = b"1;" + b"a" * (LINE_MAX - 4) + b"\r\nx\r\n"
    assert chunked.decode([line * 3 + b"0\r\n"])[:2] == (TRAILERS, b"xxx")


@pytest.mark.parametrize("is_dripped", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(
    ("data", "limit", "payload"),
    [
        (b"1;ab\r\nx\r\n1;c\r\ny\r\n0\r\n", 5, None),
        (b"1;ab\r\nx\r\n1;c\r\ny\r\n0\r\n", 4, b"x"),
        (b"1;ab\r\nx\r\n1;c\r\ny\r\n0\r\n", 0, b""),
        (b"1\r\nx\r\n0\r\n", 0, None),
        (b"1;a\r\nx\r\n0;b\r\n", 2, b"x"),
    ],
)
def test_extensions_of_all_chunks_have_one_limit(data, limit, payload, is_dripped):
    decoder = Decoder(limit)
    got, result = b"", MORE
    for piece in [bytes([octet]) for octet in data] if is_dripped else [data]:
        result, _, spans = decoder.feed(piece)
        got += b"".join(piece[at : at + size] for at, size in spans)
        if result != MORE:
            break
    if payload is None:
        assert result == TRAILERS
    else:
        assert (chunked.chunk_reason(result), got) == ("chunk_extensions_too_large", payload)
