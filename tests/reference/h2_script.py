"""Conversations of HTTP/2 as bytes, for the fuzzer: what a peer sends, right and wrong, and what its other side does.

Byte 0 of a script says who we are, byte 1 where what comes is cut; each step behind them is

    below 0x80   a frame: type (four bits) and a fault of its head (three); flags, stream, size, payload
    below 0xA0   bytes as they are: size, bytes
    below 0xC0   HEADERS with one of the sections below (five bits): flags, stream
    else         an act of our own side (four bits): stream, argument
"""

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
SECTIONS = [
    REQUEST,
    [(b":method", b"GET"), *REQUEST[1:]],
    [*REQUEST, (b"content-length", b"3")],
    [*REQUEST, (b"cookie", b"a=1"), (b"cookie", b"b=2")],
    [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *REQUEST[1:]],
    [*REQUEST, *[(b"x", b"y")] * 40],
    [*REQUEST, (b"x-long", b"z" * 300)],
    [*REQUEST, (b"te", b"trailers"), (b"expect", b"100-continue"), (b"priority", b"u=1, i")],
    [(b"x-trailer", b"t")],
    [(b":status", b"200")],
    [(b":status", b"200"), (b"content-length", b"3")],
    [(b":status", b"103"), (b"link", b"</a>")],
    [(b":status", b"204")],
    [(b":status", b"abc")],
    [(b"X-Upper", b"a")],
    [(b":path", b"/"), (b"a", b"b"), (b":method", b"GET")],
]
BLOCKS = []
for section in SECTIONS:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    BLOCKS.append(encoder.encode(section, huffman=False))
BLOCKS += [b"\xbf", b"\x3f\xe1\x1f", b"\x20", b"\x80", b"\x40\x01a\x03b\rc", b""]
ACTS = (
    "respond", "respond with a body", "inform", "send", "end", "end with trailers", "give back", "cancel", "request",
    "request with a body", "ping", "goaway", "announce", "terminate", "wait", "drain",
)  # fmt: skip


def frame(kind: int, flags: int, stream: int, payload: bytes, fault: int = 0) -> bytes:
    """Make a frame; `fault` 1 and 2 are a wrong size, 3 a very large one, 4 a set reserved bit, 5 a large id."""
    size = len(payload) + {1: 1, 2: -1, 3: 16385}.get(fault, 0)
    stream |= {4: 0x80000000, 5: 0x7FFFFF00}.get(fault, 0)
    return max(0, size).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def steps(script: bytes):
    """Yield ("bytes", data) and ("act", name, stream, argument)."""
    at = 2
    while at < len(script):
        op, rest = script[at], script[at + 1 :]
        if op < 0x80 and len(rest) >= 3:
            yield "bytes", frame(op & 15, rest[0], rest[1], rest[3 : 3 + rest[2]], op >> 4)
            at += 4 + rest[2]
        elif 0x80 <= op < 0xA0 and rest:
            yield "bytes", rest[1 : 1 + rest[0]]
            at += 2 + rest[0]
        elif 0xA0 <= op < 0xC0 and len(rest) >= 2:
            yield "bytes", frame(1, rest[0], rest[1], BLOCKS[(op & 31) % len(BLOCKS)])
            at += 3
        elif op >= 0xC0 and len(rest) >= 2:
            yield "act", ACTS[op & 15], rest[0], rest[1]
            at += 3
        else:
            return
