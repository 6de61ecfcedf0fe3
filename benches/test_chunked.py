"""Decoding the chunked coding: ours with and without Python objects, httptools, and the slow reference.

Each row decodes a body ROUNDS times. "codec" is what the proxy does: spans of payload, no object, no copy.
"""

import httptools
import pytest
import slow_chunked

from pingora_c.h1 import chunked

ROUNDS = 10
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def coded(size: int, count: int, extension: bytes = b"") -> bytes:
    return (b"%x%s\r\n" % (size, extension) + b"x" * size + b"\r\n") * count + b"0\r\n"


BODIES = {
    "one_byte_chunks": coded(1, 1000),
    "chunks_of_100": coded(100, 100),
    "chunks_of_16384": coded(16384, 16),
    "extensions": coded(100, 100, b';name="a quoted value";token=abc'),
}


class Collector:
    """Take the payload that httptools finds."""

    def __init__(self) -> None:
        self.size = 0

    def on_body(self, body: bytes) -> None:
        self.size += len(body)


def codec(data: bytes) -> None:
    assert chunked.repeat_decode(data, ROUNDS)


def objects(data: bytes) -> None:
    for _ in range(ROUNDS):
        chunked.decode([data])


def reference(data: bytes) -> None:
    for _ in range(ROUNDS):
        slow_chunked.decode(data)


def with_httptools(data: bytes) -> None:
    taken = Collector()
    parser = httptools.HttpRequestParser(taken)
    for _ in range(ROUNDS):
        parser.feed_data(HEAD + data + b"\r\n")
    assert taken.size


DECODERS = [codec, objects, with_httptools, reference]


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: decode.__name__)
@pytest.mark.parametrize("name", BODIES)
def test_chunked_body(benchmark, name, decode):
    data = BODIES[name]
    benchmark.group = f"{ROUNDS} bodies, {name}, {len(data)} bytes each"
    benchmark(decode, data)
