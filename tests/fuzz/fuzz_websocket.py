"""Fuzz target: frames are read as the slow reference does, whole and in three parts; any payload may be inflated.

The first byte of an input says which side sends and which reserved bits are used, the next two where it is cut.
"""

import sys

import atheris
import slow_websocket
from guarded import Guarded

from pingora_c.ws.deflate import Codec
from pingora_c.ws.frame import Reader

MEMORY = Guarded(4096)


def read(pieces, is_masked, allowed_rsv, is_lenient=False):
    """Read pieces, each flush against an unreadable page."""
    reader = Reader(is_masked, allowed_rsv, is_lenient)
    result = total = 0
    for piece in pieces:
        result, consumed = reader.feed(MEMORY.at_end(piece))
        total += consumed
        if result < 0:
            break
    return result, total, reader.frames, reader.at_boundary


def inflate(frames):
    """Inflate the payloads of one direction."""
    codec = Codec()
    for _first, payload in frames:
        try:
            codec.inflate(payload)
        except ValueError:
            break


def test_one_input(data):
    if len(data) < 4:
        return
    is_masked, allowed_rsv = bool(data[0] & 1), data[0] & 0x70
    first, second = sorted(cut % len(data) for cut in data[1:3])
    data = data[3:]
    pieces = [data[:first], data[first:second], data[second:]]
    expected = slow_websocket.read(data, is_masked, allowed_rsv)
    whole = read([data], is_masked, allowed_rsv)
    assert whole == expected, (whole, expected)
    cut = read(pieces, is_masked, allowed_rsv)
    assert cut == expected, (cut, expected, first, second)
    assert read([data], is_masked, allowed_rsv, True) == read(pieces, is_masked, allowed_rsv, True)
    inflate(expected[2])


atheris.Setup(sys.argv, test_one_input)
atheris.Fuzz()
