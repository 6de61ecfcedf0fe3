"""Slow reference of the PROXY protocol: a regular expression for version 1, slices and `struct` for version 2.

Returns what `pingora_c.prelude.proxy_header.parse` does.
"""

import ipaddress
import re
import struct

INCOMPLETE, ABSENT, BAD_LINE, TOO_LONG, BAD_VERSION, BAD_LENGTH, BAD_TLV, BAD_CHECKSUM = 0, -1, -2, -3, -4, -5, -6, -7
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = re.compile(rb"PROXY TCP([46]) ([^ ]*) ([^ ]*) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})", re.DOTALL)
UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: .*)?", re.DOTALL)
ADDRESSES = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}


def packed(version, text):
    """Give the bytes of an address; None if it is none of that version."""
    try:
        kind = ipaddress.IPv4Address if version == b"4" else ipaddress.IPv6Address
        return None if b"%" in text or not text.isascii() else kind(text.decode()).packed
    except ValueError:
        return None


def parse_line(data):
    line, found, _ = data[:107].partition(b"\n")
    if not found:
        return (INCOMPLETE if len(data) < 107 else TOO_LONG), None
    if not line.endswith(b"\r"):
        return BAD_LINE, None
    size, line = len(line) + 1, line[:-1]
    if UNKNOWN.fullmatch(line):
        return size, (1, False, None, None, ())
    if not (match := LINE.fullmatch(line)):
        return BAD_LINE, None
    hosts = [packed(match[1], text) for text in match.group(2, 3)]
    ports = [int(text) for text in match.group(4, 5)]
    if None in hosts or max(ports) > 65535:
        return BAD_LINE, None
    return size, (1, False, (hosts[0], ports[0]), (hosts[1], ports[1]), ())


def crc32c(data):
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def path(data):
    return data.rstrip(b"\0") if data.startswith(b"\0") else data.partition(b"\0")[0]


def tlvs_of(data, at):
    """Give the triples from `at` to the end, or an error."""
    found = []
    while at < len(data):
        if len(data) - at < 3:
            return BAD_TLV
        kind, size = struct.unpack("!BH", data[at : at + 3])
        value = data[at + 3 : at + 3 + size]
        if len(value) < size or (kind == 5 and size > 128) or (kind == 3 and size != 4):
            return BAD_TLV
        if kind == 3:
            zeroed = data[: at + 3] + bytes(4) + data[at + 7 :]
            if struct.pack("!I", crc32c(zeroed)) != value:
                return BAD_CHECKSUM
        found.append((kind, value))
        at += 3 + size
    return tuple(found)


def parse_binary(data):
    command, family = data[12:13], data[13:14]
    if command and command not in (b"\x20", b"\x21"):
        return BAD_VERSION, None
    if command == b"\x21" and family and family[0] not in ADDRESSES:
        return BAD_VERSION, None
    if len(data) < 16:
        return INCOMPLETE, None
    whole = 16 + struct.unpack("!H", data[14:16])[0]
    size = ADDRESSES[family[0]] if command == b"\x21" else 0
    if whole > 4096:
        return TOO_LONG, None
    if 16 + size > whole:
        return BAD_LENGTH, None
    if len(data) < whole:
        return INCOMPLETE, None
    if size == 0:
        return whole, (2, command == b"\x20", None, None, ())
    body = data[16 : 16 + size]
    if size == 216:
        source, destination = path(body[:108]), path(body[108:])
    else:
        host = (size - 4) // 2
        ports = struct.unpack("!HH", body[-4:])
        source, destination = (body[:host], ports[0]), (body[host : 2 * host], ports[1])
    tlvs = tlvs_of(data[:whole], 16 + size)
    return (tlvs, None) if isinstance(tlvs, int) else (whole, (2, False, source, destination, tlvs))


def parse(data):
    if not data:
        return INCOMPLETE, None
    if b"PROXY ".startswith(data[:6]):
        return parse_line(data)
    if SIGNATURE.startswith(data[:12]):
        return parse_binary(data)
    return ABSENT, None
