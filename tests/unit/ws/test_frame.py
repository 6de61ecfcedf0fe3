"""The frame reader: what it accepts and refuses, however the bytes arrive, beside a slow reference and `websockets`."""

import itertools

import pytest
import slow_websocket
from guarded import Guarded
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, Frame
from websockets.streams import StreamReader

from pingora_c.ws import frame
from pingora_c.ws.frame import Reader

KEY = b"\x01\xff\x7f\x80"
FIN, RSV1, RSV2 = 0x80, 0x40, 0x20
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MESSAGES = [
    (FIN | TEXT, "grüße".encode()),
    (TEXT, b"fragm"),
    (FIN | PING, b"in between"),
    (CONTINUATION, b""),
    (FIN | CONTINUATION, b"ented"),
    (FIN | BINARY, bytes(range(256)) * 2),
    (FIN | PONG, b"x" * 125),
    (FIN | BINARY, b"y" * 65536),
]


def read_pieces(pieces, is_masked, allowed_rsv=0):
    reader = Reader(is_masked, allowed_rsv)
    result = total = 0
    for piece in pieces:
        result, consumed = reader.feed(piece)
        total += consumed
        if result < 0:
            break
        assert consumed == len(piece)
    return result, total, reader.frames, reader.at_boundary


def read_guarded(pieces, is_masked, guarded, flush):
    reader = Reader(is_masked)
    result = total = 0
    for piece in pieces:
        memory = guarded.at_end(piece) if flush == "end" else guarded.at_start(piece)
        result, consumed = reader.feed(memory)
        total += consumed
        if result < 0:
            break
    return result, total, reader.frames, reader.at_boundary


def header(first, length, form, is_masked=False):
    """Return a header that says its length in 7, 16 or 64 bits, the shortest form or not."""
    mask = 0x80 if is_masked else 0
    if form == 7:
        return bytes([first, mask | length])
    return bytes([first, mask | (126 if form == 16 else 127)]) + length.to_bytes(form // 8, "big")


REFUSED = [
    ("reserved_bit_1", bytes([FIN | RSV1 | TEXT, 0]), "reserved_bits"),
    ("reserved_bit_2", bytes([FIN | RSV2 | TEXT, 0]), "reserved_bits"),
    ("reserved_bit_3", bytes([FIN | 0x10 | TEXT, 0]), "reserved_bits"),
    ("reserved_bit_of_a_ping", bytes([FIN | RSV1 | PING, 0]), "reserved_bits"),
    ("reserved_bit_of_a_continuation", bytes([TEXT, 0, FIN | RSV1, 0]), "reserved_bits"),
    *[(f"opcode_{opcode}", bytes([FIN | opcode, 0]), "reserved_opcode") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 15)],
    ("masked_by_a_server", bytes([FIN | TEXT, 0x80]) + KEY, "bad_masking"),
    ("fragmented_ping", bytes([PING, 0]), "bad_control_frame"),
    ("fragmented_close", bytes([CLOSE, 0]), "bad_control_frame"),
    ("ping_of_126_bytes", header(FIN | PING, 126, 16), "bad_control_frame"),
    ("close_of_65536_bytes", header(FIN | CLOSE, 65536, 64), "bad_control_frame"),
    ("length_125_in_16_bits", header(FIN | TEXT, 125, 16), "bad_length"),
    ("length_65535_in_64_bits", header(FIN | TEXT, 65535, 64), "bad_length"),
    ("length_0_in_64_bits", header(FIN | TEXT, 0, 64), "bad_length"),
    ("length_of_2_to_the_63", header(FIN | TEXT, 1 << 63, 64), "bad_length"),
    ("length_of_2_to_the_64_less_1", header(FIN | TEXT, (1 << 64) - 1, 64), "bad_length"),
    ("continuation_of_nothing", bytes([CONTINUATION, 0]), "bad_continuation"),
    ("continuation_behind_a_whole_message", bytes([FIN | TEXT, 0, FIN, 0]), "bad_continuation"),
    ("message_within_a_message", bytes([TEXT, 0, FIN | TEXT, 0]), "bad_continuation"),
]


def by_name(rows):
    return {"argvalues": [row[1:] for row in rows], "ids": [row[0] for row in rows]}


def read_all_ways(data, is_masked, guarded):
    expected = slow_websocket.read(data, is_masked)
    assert read_pieces([data], is_masked) == expected
    assert read_pieces([bytes([octet]) for octet in data], is_masked) == expected
    for flush in ("end", "start"):
        assert read_guarded([data], is_masked, guarded, flush) == expected
        for at in range(len(data) + 1):
            assert read_guarded([data[:at], data[at:]], is_masked, guarded, flush) == expected


@pytest.fixture(scope="module")
def guarded():
    return Guarded(4096)


@pytest.mark.parametrize("key", [None, KEY], ids=["of a server", "of a client"])
def test_frames_come_back_as_they_were_encoded(key):
    data = b"".join(frame.encode(first, payload, key) for first, payload in MESSAGES)
    assert read_pieces([data], key is not None) == (0, len(data), MESSAGES, True)
    assert slow_websocket.read(data, key is not None) == (0, len(data), MESSAGES, True)


@pytest.mark.parametrize("key", [None, KEY], ids=["of a server", "of a client"])
@pytest.mark.parametrize("first", range(3), ids=["1", "2", "3"])
def test_frames_are_read_in_any_pieces(guarded, key, first):
    rows = MESSAGES[first : first + 4]
    read_all_ways(b"".join(frame.encode(head, payload, key) for head, payload in rows), key is not None, guarded)


@pytest.mark.parametrize(("data", "reason"), **by_name(REFUSED))
def test_a_bad_frame_is_refused(guarded, data, reason):
    result, consumed, _frames, at_boundary = read_pieces([data], False)
    assert (frame.error_reason(result), at_boundary) == (reason, False)
    assert consumed <= len(data)
    read_all_ways(data, False, guarded)


def test_a_client_must_mask():
    assert frame.error_reason(read_pieces([bytes([FIN | TEXT, 0])], True)[0]) == "bad_masking"


def test_a_reserved_bit_that_was_negotiated_is_of_a_messages_first_frame():
    good = bytes([RSV1 | TEXT, 0, FIN | PING, 0, FIN, 0])
    assert read_pieces([good], False, RSV1)[0] == 0
    for bad in (bytes([TEXT, 0, FIN | RSV1, 0]), bytes([FIN | RSV1 | PING, 0]), bytes([FIN | RSV1 | RSV2 | TEXT, 0])):
        assert read_pieces([bad], False, RSV1) == slow_websocket.read(bad, False, RSV1)
        assert frame.error_reason(read_pieces([bad], False, RSV1)[0]) == "reserved_bits"


def test_what_follows_a_close_frame_is_discarded():
    data = bytes([FIN | CLOSE, 0]) + b"\xff" * 100
    assert read_pieces([data], False) == (0, len(data), [(FIN | CLOSE, b"")], False)


def test_behind_a_bad_frame_nothing_is_read():
    reader = Reader(False)
    assert reader.feed(b"\x83\0")[0] < 0
    assert reader.feed(b"\x81\0") == (-2, 0)


def test_the_lenient_reader_follows_lengths_only():
    data = b"".join([header(0xF3, 3, 7), b"abc", header(0x0B, 200, 16), bytes(200), header(0x40, 0, 7)])
    reader = Reader(False, 0x70, True)
    assert reader.feed(data) == (0, len(data))
    assert [first for first, _ in reader.frames] == [0xF3, 0x0B, 0x40]
    assert reader.at_boundary


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 0x81, 0x82, 0, 0x80, 0x88, 0x89, 0x8A, 0x41, 0x03]), st.binary(max_size=130)),
        max_size=6,
    ),
    st.booleans(),
    st.data(),
)
@settings(max_examples=300)
def test_any_frames_are_read_as_the_slow_reference_does(rows, is_masked, data):
    octets = b"".join(frame.encode(first, payload, KEY if is_masked else None) for first, payload in rows)
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, max(len(octets) - 1, 0)))
        octets = octets[:at] + data.draw(st.binary(min_size=1, max_size=2)) + octets[at + 1 :]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=4)))
    pieces = [octets[a:b] for a, b in itertools.pairwise([0, *cuts, len(octets)])]
    assert read_pieces(pieces, is_masked) == slow_websocket.read(octets, is_masked)


def parse(octets, is_masked):
    """Read frames with `websockets`: those that are complete, and whether it raised."""
    reader = StreamReader()
    reader.feed_data(octets)
    reader.feed_eof()
    frames = []
    while not (frames and frames[-1][0] & 0x0F == 8):
        parser = Frame.parse(reader.read_exact, mask=is_masked, max_size=None)
        try:
            next(parser)
        except StopIteration as stop:
            got = stop.value
            frames.append(((FIN if got.fin else 0) | got.opcode, bytes(got.data)))
        except (ProtocolError, PayloadTooBig):
            return frames, True
        except EOFError:
            break
        else:
            break
    return frames, False


@given(st.lists(st.tuples(st.integers(0, 15), st.booleans(), st.binary(max_size=200)), max_size=5), st.booleans())
@settings(max_examples=300)
def test_frames_are_read_as_websockets_does(rows, is_masked):
    octets = b"".join(
        frame.encode(opcode | (FIN if fin else 0), payload, KEY if is_masked else None) for opcode, fin, payload in rows
    )
    result, _total, frames, _boundary = read_pieces([octets], is_masked)
    theirs, raised = parse(octets, is_masked)
    # `websockets` judges continuations elsewhere; up to there both are one
    if result < 0 and frame.error_reason(result) == "bad_continuation":
        assert theirs[: len(frames)] == frames
    else:
        assert (frames, result < 0) == (theirs, raised)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 16, 17, 31, 125, 126, 65535, 65536])
@pytest.mark.parametrize("is_masked", [False, True])
def test_encoded_frames_are_what_websockets_writes(monkeypatch, size, is_masked):
    payload = bytes(i * 7 % 256 for i in range(size))
    monkeypatch.setattr("secrets.token_bytes", lambda n: KEY)
    theirs = Frame(2, payload).serialize(mask=is_masked)
    assert frame.encode(FIN | BINARY, payload, KEY if is_masked else None) == theirs


@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize("size", [*range(40), 1000])
def test_masking_is_octet_by_octet(phase, size):
    data = bytes(i * 31 % 256 for i in range(size))
    expected = bytes(octet ^ KEY[(i + phase) % 4] for i, octet in enumerate(data))
    assert frame.masked(data, KEY, phase) == expected
    assert frame.masked(expected, KEY, phase) == data


@pytest.mark.parametrize("code", [*range(990, 1030), 2999, 3000, 4999, 5000, 65535])
def test_a_close_code_is_valid_where_websockets_says_so(code):
    try:
        Close(code, "").check()
        is_valid = True
    except ProtocolError:
        is_valid = False
    assert (frame.check_close(code.to_bytes(2, "big")) == 0) == is_valid


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(b"\x03", "bad_close_frame"), (b"\x03\xe8\xff", "bad_utf8"), (b"\x03\xe8\xed\xa0\x80", "bad_utf8")],
)
def test_a_bad_close_payload_is_refused(payload, reason):
    assert frame.error_reason(frame.check_close(payload)) == reason


def test_a_close_without_code_and_one_with_a_reason_are_good():
    assert frame.check_close(b"") == frame.check_close(b"\x03\xe8" + "schön".encode()) == 0
