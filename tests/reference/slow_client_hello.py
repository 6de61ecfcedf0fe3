"""Slow reference of the ClientHello reader: slices of the message, an exception where a length does not fit.

Returns what `pingora_c.prelude.client_hello.parse` does.
"""

INCOMPLETE, ABSENT, BAD, TOO_LONG = 0, -1, -2, -3
MOST = 16384


class Malformed(Exception):
    """A length that does not fit, or a value that may not be."""


class Bytes:
    """Bytes that are taken from the front."""

    def __init__(self, data):
        self.data = data

    def take(self, size):
        """Take so many."""
        if size > len(self.data):
            raise Malformed
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, octets):
        """Take a number."""
        return int.from_bytes(self.take(octets), "big")

    def vector(self, octets):
        """Take what stands behind a length of so many octets."""
        return Bytes(self.take(self.number(octets)))


def need(is_right):
    """Raise Malformed if something is not right."""
    if not is_right:
        raise Malformed


def read(message):
    """Give the server name and the list of protocols of a whole message."""
    left = Bytes(message[4:])
    need(left.number(1) == 3)
    left.take(33)
    need(len(left.vector(1).data) <= 32)
    suites = left.vector(2).data
    need(suites and len(suites) % 2 == 0)
    need(left.vector(1).data)
    found = {}
    if not left.data:
        return b"", b""
    extensions = left.vector(2)
    need(not left.data)
    while extensions.data:
        kind, body = extensions.number(2), extensions.vector(2)
        if kind not in (0, 16):
            continue
        need(kind not in found)
        outer = body.vector(2)
        need(not body.data)
        if kind == 0:
            need(outer.number(1) == 0)
            found[0] = outer.vector(2).data
            need(not outer.data and 0 < len(found[0]) <= 255 and 0 not in found[0])
        else:
            found[16] = outer.data
            need(outer.data)
            while outer.data:
                need(outer.vector(1).data)
    return found.get(0, b""), found.get(16, b"")


def parse(data):
    """Give size, server name and protocols, or an error."""
    message, at = b"", 0
    if data[:1] not in (b"", b"\x16") or data[1:2] not in (b"", b"\x03"):
        return ABSENT, None, None
    for _ in range(64):
        head = data[at : at + 5]
        if head[:1] not in (b"", b"\x16") or head[1:2] not in (b"", b"\x03"):
            return BAD, None, None
        if len(head) < 5:
            return INCOMPLETE, None, None
        length = int.from_bytes(head[3:], "big")
        if not 0 < length <= 16384:
            return BAD, None, None
        fragment = data[at + 5 : at + 5 + length]
        before, message, at = len(message), message + fragment, at + 5 + length
        if message and message[0] != 1:
            return BAD, None, None
        if len(message) < 4:
            if len(fragment) < length:
                return INCOMPLETE, None, None
            continue
        whole = 4 + int.from_bytes(message[1:4], "big")
        if whole > MOST:
            return TOO_LONG, None, None
        if before + length > whole:
            return BAD, None, None
        if len(fragment) < length:
            return INCOMPLETE, None, None
        if len(message) == whole:
            try:
                return (at, *read(message))
            except Malformed:
                return BAD, None, None
    return TOO_LONG, None, None
