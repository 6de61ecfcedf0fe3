"""Slow reference of the head parser: one regular expression per grammar rule, line by line.

Made to be compared with `pingora_c.h1.head`: the same arguments, the same answers. It knows a verdict only for lines
that have ended; at the limit of a head that never ends, where the compiled parser names the first fault of the
unfinished line or else its size, it says REFUSED.
"""

import re
from collections.abc import Callable

from pingora_c.http.field import recognise_name

INCOMPLETE = -1
BAD_REQUEST_LINE = -2
BAD_METHOD = -3
BAD_TARGET = -4
TARGET_TOO_LONG = -5
BAD_VERSION = -6
BAD_STATUS_LINE = -7
BAD_LINE_END = -8
BAD_FIELD_NAME = -9
BAD_FIELD_VALUE = -10
TOO_MANY_FIELDS = -11
HEAD_TOO_LARGE = -12
METHOD_TOO_LONG = -13
REFUSED = -99

METHOD_MAX = 64
NAME_MAX = 65535

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")  # RFC 9110 §5.6.2
TARGET = re.compile(rb'[!"$-~]*')  # RFC 9112 §3.2, all forms: VCHAR without "#"
TEXT = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 §5.5
VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")  # RFC 9112 §2.3
STATUS = re.compile(rb" ([0-9]{3})")  # RFC 9112 §4

Fields = list[tuple[bytes, bytes, int]]


class Refused(Exception):
    """The verdict about a line."""

    def __init__(self, code: int) -> None:
        self.code = code


def take(rule: re.Pattern[bytes], line: bytes, at: int) -> tuple[bytes, int]:
    """Match as much as `rule` allows; return it and the offset behind it."""
    match = rule.match(line, at)
    assert match is not None, "each of these rules matches nothing too"
    return match[0], match.end()


def line_end(line: bytes, at: int, otherwise: int) -> None:
    """RFC 9112 §2.2: a line ends with CRLF."""
    if line[at:] != b"\r\n":
        raise Refused(BAD_LINE_END if line[at : at + 1] in (b"\r", b"\n") else otherwise)


def version(line: bytes, at: int, otherwise: int) -> tuple[int, int]:
    """Return major and minor version."""
    match = VERSION.match(line, at)
    if match is None:
        raise Refused(otherwise)
    return int(match[1]), int(match[2])


def minor_of(major: int, minor: int) -> int:
    """RFC 9110 §2.5: a higher minor version is read as the highest that we know."""
    if major != 1:
        raise Refused(BAD_VERSION)
    return min(minor, 1)


def word(line: bytes, at: int, rule: re.Pattern[bytes], most: int, too_long: int, bad: int) -> tuple[bytes, int]:
    """Take one word of the request line and the space behind it."""
    found, at = take(rule, line, at)
    if len(found) > most:
        raise Refused(too_long)
    if line[at : at + 1] in (b"\r", b"\n"):
        raise Refused(BAD_REQUEST_LINE)
    if not found or line[at : at + 1] != b" ":
        raise Refused(bad)
    return found, at + 1


def request_line(line: bytes, target_bytes: int) -> tuple[bytes, bytes, int]:
    """Return method, target and minor version."""
    method, at = word(line, 0, TOKEN, METHOD_MAX, METHOD_TOO_LONG, BAD_METHOD)
    target, at = word(line, at, TARGET, target_bytes, TARGET_TOO_LONG, BAD_TARGET)
    major, minor = version(line, at, BAD_REQUEST_LINE)
    line_end(line, at + 8, BAD_REQUEST_LINE)
    return method, target, minor_of(major, minor)


def status_line(line: bytes) -> tuple[int, bytes, int]:
    """Return status, reason and minor version."""
    major, minor = version(line, 0, BAD_STATUS_LINE)
    match = STATUS.match(line, 8)
    if match is None:
        raise Refused(BAD_STATUS_LINE)
    reason, at = b"", 12
    if line[at : at + 1] == b" ":
        reason, at = take(TEXT, line, at + 1)
    line_end(line, at, BAD_STATUS_LINE)
    minor = minor_of(major, minor)
    if not 100 <= int(match[1]) <= 599:
        raise Refused(BAD_STATUS_LINE)
    return int(match[1]), reason, minor


def field_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Return name, value and the number of the name."""
    name, at = take(TOKEN, line, 0)
    if not name or line[at : at + 1] != b":":
        raise Refused(BAD_FIELD_NAME)
    if len(name) > NAME_MAX:
        raise Refused(HEAD_TOO_LARGE)
    value, at = take(TEXT, line, at + 1)
    line_end(line, at, BAD_FIELD_VALUE)
    return name, value.strip(b" \t"), recognise_name(name)


def section(data: bytes, at: int, room: int) -> tuple[int, Fields]:
    """Return the offset behind the empty line, and the fields."""
    fields: Fields = []
    while True:
        line = line_at(data, at)
        if line[:1] in (b"\r", b"\n"):
            line_end(line, 0, BAD_LINE_END)
            return at + len(line), fields
        if len(fields) == room:
            raise Refused(TOO_MANY_FIELDS)
        fields.append(field_line(line))
        at += len(line)


def line_at(data: bytes, at: int) -> bytes:
    """Return the line at an offset, LF included."""
    end = data.find(b"\n", at) + 1
    if end == 0:
        raise Refused(INCOMPLETE)
    return data[at:end]


def limited(parse: Callable[[bytes], tuple], data: bytes, most: int) -> tuple | int:
    """Parse at most `most` bytes; a head that has not ended by then is refused."""
    try:
        return parse(data[:most])
    except Refused as verdict:
        return REFUSED if verdict.code == INCOMPLETE and len(data) >= most else verdict.code


def parse_request(data: bytes, head_bytes: int = 65536, target_bytes: int = 8192, fields: int = 128) -> tuple | int:
    """Return (size, method, target, minor, fields), or the verdict."""

    def parse(part: bytes) -> tuple:
        at = 0
        line = line_at(part, 0)
        if line[:1] in (b"\r", b"\n"):  # RFC 9112 §2.2: one empty line before a request is skipped
            line_end(line, 0, BAD_LINE_END)
            at = 2
            line = line_at(part, 2)
        start = request_line(line, target_bytes)
        end, found = section(part, at + len(line), fields)
        return (end, *start, found)

    return limited(parse, data, head_bytes)


def parse_response(data: bytes, head_bytes: int = 65536, fields: int = 128) -> tuple | int:
    """Return (size, status, reason, minor, fields), or the verdict."""

    def parse(part: bytes) -> tuple:
        line = line_at(part, 0)
        start = status_line(line)
        end, found = section(part, len(line), fields)
        return (end, *start, found)

    return limited(parse, data, head_bytes)


def parse_trailers(data: bytes, head_bytes: int = 16384, fields: int = 128) -> tuple | int:
    """Return (size, fields), or the verdict."""
    return limited(lambda part: section(part, 0, fields), data, head_bytes)


def agree(found: tuple | int, expected: tuple | int) -> bool:
    """Return whether an answer of the compiled parser is the reference's."""
    if expected == REFUSED:
        return isinstance(found, int) and found < INCOMPLETE
    return found == expected
