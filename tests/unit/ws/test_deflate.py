"""permessage-deflate beside the extension of `websockets`."""

import random

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame

from pingora_c.ws import deflate
from pingora_c.ws.deflate import Codec

WORDS = [random.Random(1).randbytes(6).hex() for _ in range(200)]
MESSAGES = [
    b"",
    b"a",
    b"Hello",
    b"Hello",
    b"x" * 100_000,
    random.Random(2).randbytes(70_000),
    " ".join(random.Random(3).choices(WORDS, k=5000)).encode(),
    b"Hello",
    b"",
]


@pytest.mark.parametrize("bits", [9, 10, 12, 15])
@pytest.mark.parametrize("resets", [False, True])
def test_what_is_deflated_here_is_inflated_by_websockets_and_back(bits, resets):
    ours = Codec(bits, resets)
    theirs = PerMessageDeflate(resets, resets, bits, bits)
    for message in MESSAGES:
        assert theirs.decode(Frame(2, ours.deflate(message), rsv1=True)).data == message
        assert ours.inflate(bytes(theirs.encode(Frame(2, message)).data)) == message


@pytest.mark.parametrize("step", [1, 2, 7, 65536])
def test_any_room_for_what_is_inflated_gives_the_same(step):
    ours = Codec()
    for message in MESSAGES[:4]:
        assert ours.inflate(ours.deflate(message), step) == message


def test_context_makes_the_second_of_two_equal_messages_shorter():
    kept, reset = Codec(), Codec(15, True)
    message = WORDS[0].encode() * 3
    assert len(kept.deflate(message)) > len(kept.deflate(message))
    assert len(reset.deflate(message)) == len(reset.deflate(message))


def test_the_examples_of_the_standard_are_inflated():
    # RFC 7692 §7.2.3.1 to §7.2.3.5
    codec = Codec()
    assert codec.inflate(bytes.fromhex("f248cdc9c90700")) == b"Hello"
    assert codec.inflate(bytes.fromhex("f200110000")) == b"Hello"
    assert Codec().inflate(bytes.fromhex("000500faff48656c6c6f00")) == b"Hello"
    assert Codec().inflate(bytes.fromhex("f348cdc9c9070000")) == b"Hello"  # with BFINAL
    assert Codec().inflate(bytes.fromhex("f248050000 00ffff cac9c90700".replace(" ", ""))) == b"Hello"


def test_context_outlives_a_final_block():
    codec = Codec()
    assert codec.inflate(bytes.fromhex("f348cdc9c9070000")) == b"Hello"
    assert codec.inflate(bytes.fromhex("f200110000")) == b"Hello"


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x07abc", bytes.fromhex("f20011aaaaaaaa")])
def test_what_is_no_deflate_is_refused(data):
    with pytest.raises(ValueError, match="inflate: -1"):
        Codec().inflate(data)


def test_an_empty_message_is_one_octet():
    assert Codec().deflate(b"") == b"\0"


@pytest.mark.parametrize(
    ("values", "terms"),
    [
        ([], (False, False, False, 15, 15)),
        ([""], (False, False, False, 15, 15)),
        (["permessage-deflate"], (True, False, False, 15, 15)),
        (["Permessage-Deflate ; client_max_window_bits=9"], (True, False, False, 9, 15)),
        (['permessage-deflate;server_max_window_bits="10"'], (True, False, False, 15, 10)),
        (["permessage-deflate; server_no_context_takeover", " "], (True, False, True, 15, 15)),
        (
            ["permessage-deflate; client_no_context_takeover; client_max_window_bits=8; server_max_window_bits=15"],
            (True, True, False, 8, 15),
        ),
    ],
)
def test_what_was_negotiated_is_read(values, terms):
    assert deflate.terms_of(values) == terms


@pytest.mark.parametrize(
    "value",
    [
        "x-webkit-deflate-frame",
        "permessage-deflate, permessage-deflate",
        "permessage-deflate; unknown",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=9; client_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate, other",
    ],
)
def test_terms_that_are_not_known_are_refused(value):
    with pytest.raises(ValueError, match="Sec-WebSocket-Extensions"):
        deflate.terms_of([value])


def test_of_an_offer_only_what_is_known_goes_upstream():
    offer = ["foo, permessage-deflate; client_max_window_bits, bar; x=1", "permessage-deflate"]
    assert deflate.offers_of(offer) == "permessage-deflate; client_max_window_bits, permessage-deflate"
    assert deflate.offers_of(["foo"]) == ""
