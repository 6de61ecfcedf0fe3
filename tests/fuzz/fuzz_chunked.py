"""Fuzz target: the chunked coding is decoded as the slow reference does, whole and in three parts.

The first two bytes of an input say where it is cut.
"""

import sys

import atheris
import slow_chunked
from guarded import Guarded

from pingora_c.h1.chunked import Decoder

MEMORY = Guarded(4096)


def decode(pieces):
    """Decode pieces, each flush against an unreadable page."""
    decoder = Decoder()
    payload = b""
    result = total = 0
    for piece in pieces:
        result, consumed, spans = decoder.feed(MEMORY.at_end(piece))
        payload += b"".join(piece[at : at + size] for at, size in spans)
        total += consumed
        if result != slow_chunked.MORE:
            break
    return result, payload, total


def test_one_input(data):
    if len(data) < 2:
        return
    first, second = sorted(cut % len(data) for cut in data[:2])
    data = data[2:]
    expected = slow_chunked.decode(data)
    whole = decode([data])
    assert whole == expected, (whole, expected)
    cut = decode([data[:first], data[first:second], data[second:]])
    assert cut == expected, (cut, expected, first, second)


atheris.Setup(sys.argv, test_one_input)
atheris.Fuzz()
