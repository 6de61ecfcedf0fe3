"""Slow reference of the chunked decoder: the grammar of RFC 9112 §7.1 as one regular expression.

A size line is refused at its first byte after which no end would make it match. That is tried, with one end for each
place in the grammar.
"""

import re

MORE = 0
TRAILERS = 2
BAD_SIZE = -1
BAD_EXTENSION = -2
BAD_LINE_END = -3
LINE_TOO_LONG = -4

LINE_MAX = 4096
SIZE_END = 1 << 63

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[\t ]*;[\t ]*"
    + _TOKEN
    + rb"(?:[\t ]*=[\t ]*(?:"
    + _TOKEN
    + rb"|"
    + _QUOTED
    + rb"))?)*\r\n"
)
ENDS = [b"", b"\n", b"\r\n", b"0\r\n", b";a\r\n", b"=a\r\n", b'"\r\n', b'a"\r\n']


def is_viable(start: bytes) -> bool:
    """Return whether `start` can still become a size line."""
    if len(start) > LINE_MAX:
        return False
    return any((match := LINE.fullmatch(start + end)) and int(match[1], 16) < SIZE_END for end in ENDS)


def refusal(line: bytes) -> tuple[int, int]:
    """Return the error of a line that is not viable, and the bytes up to the bad one."""
    good, bad = 0, len(line)  # viability is lost once and for ever: line[:good] has it, line[:bad] has not
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_viable(line[:middle]):
            good = middle
        else:
            bad = middle
    if bad > LINE_MAX:
        return LINE_TOO_LONG, bad
    if line[bad - 1 : bad] == b"\n" or line[:good].endswith(b"\r"):
        return BAD_LINE_END, bad
    return (BAD_SIZE if re.fullmatch(rb"[0-9A-Fa-f]*", line[:good]) else BAD_EXTENSION), bad


def decode(data: bytes) -> tuple[int, bytes, int]:
    """Return (last result, payload, bytes consumed), as `pingora_c.h1.chunked.decode` does for any pieces of `data`."""
    payload = b""
    at = 0
    while True:
        end = data.find(b"\n", at) + 1 or len(data)
        line = data[at:end]
        if line and not is_viable(line):
            error, bad = refusal(line)
            return error, payload, at + bad
        at = end
        if not line.endswith(b"\n"):
            return MORE, payload, at
        size = int(LINE.fullmatch(line)[1], 16)  # type: ignore[index]
        if size == 0:
            return TRAILERS, payload, at
        payload += data[at : at + size]
        at += size
        if at >= len(data):
            return MORE, payload, len(data)
        behind = data[at : at + 2]
        if not b"\r\n".startswith(behind):
            # What is consumed are the good bytes.
            return BAD_LINE_END, payload, at + (behind[:1] == b"\r")
        at += len(behind)
        if len(behind) < 2:
            return MORE, payload, at
