"""Streams of requests as a client could send them: made by a grammar with slips in it, or by changing given ones.

All chance comes from the `random.Random` that is passed in, so a seed gives the same stream again.
"""

import random

METHODS = [b"GET"] * 6 + [b"POST"] * 5 + [b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"QUERY"]
TARGETS = [
    b"/", b"/a", b"/a/b?c=d&e", b"/%41%zz", b"//x", b"/a/../b", b"/?", b"/;p=1", b"/a'b(c)!$&*+,;=:@[]",
    b"http://b.example/x", b"http://b.example", b"http://b.example:81?q", b"HTTPS://b.example/", b"/a|b^c`{}\\\"",
]  # fmt: skip
ODD_TARGETS = [
    b"*", b"a:80", b"/#f", b"http://", b"http:///x", b"http://u@a/", b"ftp://a/", b"a/b", b"/\x80", b"/a b", b"",
    b"http://a:99999/", b"http://[::1]:80/", b"/\t",
]  # fmt: skip
HOSTS = [b"a.example"] * 8 + [b"a.example:8080", b"127.0.0.1", b"[::1]:80", b"A.Example", b"a.example:", b"a%20b"]
ODD_HOSTS = [b"", b"a,b", b"a b", b"u@a", b"a/b", b"a:b", b"a:70000", b"[::1", b"\xe4", b"a#b", b"http://a"]
NAMES = [
    b"Accept",
    b"X-A",
    b"x-b",
    b"Cookie",
    b"Via",
    b"User-Agent",
    b"Trailer",
    b"Authorization",
    b"Date",
    b"!#$%&'*+",
]
VALUES = [b"", b"v", b"a, b", b'"q"', b"\xe4\xff", b"a\tb", b"x" * 300, b"chunked", b"0", b":", b"a  b", b"gzip;q=0.5"]
TRUST = [b"X-Forwarded-For", b"X_Forwarded_For", b"x-forwarded-proto", b"Forwarded", b"X-Real-IP", b"x_real-ip"]
TRUST += [b"X-Forwarded-Prefix", b"X_Forwarded_Server", b"X-Forwarded-Client-Cert"]
CONNECTIONS = [
    b"close",
    b"keep-alive",
    b"x-a",
    b"X-A, x-b",
    b"te, close",
    b"",
    b",",
    b"host",
    b"content-length",
    b"Close",
]
ODD_CONNECTIONS = [b"a b", b"x-a;", b"close\x0b", b"upgrade", b'"close"']
HOP_BY_HOP = [
    (b"Keep-Alive", b"timeout=5"),
    (b"TE", b"trailers"),
    (b"Proxy-Connection", b"close"),
    (b"Upgrade", b"x/1"),
]
VERSIONS = [b"HTTP/1.1"] * 14 + [b"HTTP/1.0"]
ODD_VERSIONS = [
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"HTTP/1.10",
    b"http/1.1",
    b"HTTP/1",
    b"HTTP/01.1",
    b"",
    b"HTTP/3.1",
]
ODD_LENGTHS = [b"+%d", b"%d, %d", b"0%d", b"%d ", b" %d", b"-%d", b"%dx", b"", b"0x%x", b"%d;", b"18446744073709551616"]
ODD_LENGTHS += [b"9223372036854775808", b"%d.0", b"%d\x0b", b"%d,"]
ODD_CODINGS = [
    b"gzip",
    b"gzip, chunked",
    b"chunked, chunked",
    b"\x0bchunked",
    b"chunked;a=b",
    b"identity",
    b"",
    b"xchunked",
]
ODD_CODINGS += [b"CHUNKED", b"chunked,", b" chunked ", b'"chunked"', b"chunked, gzip"]
EXTENSIONS = [b";a", b";a=b", b';a="b;c"', b";a=b;c", b' ; a = "\\""']
ODD_EXTENSIONS = [b";", b";=", b";a=", b';a="', b" ", b"\t;a", b";a\x0b", b";a=b c", b";\xe4", b";a;", b";a=@", b"\x00"]
ODD_SIZES = [
    b"0x%x",
    b"+%x",
    b"00000000000000000%x",
    b"-%x",
    b"%xg",
    b" %x",
    b"",
    b"ffffffffffffffffff",
    b"%x\x0b",
    b"0000%x",
]
TRAILERS = [
    (b"X-Sum", b"1"),
    (b"X-A", b"t"),
    (b"Content-Length", b"5"),
    (b"Host", b"evil"),
    (b"x_forwarded_for", b"6.6.6.6"),
]
ODD_FIELDS = [
    b"X : v", b" X: v", b"X", b": v", b"X\x00: v", b"X: \x00", b"X: a\x01b", b"X: a\rb", b"X: a\x7fb", b"\xe4: v",
    b"X: a\r\n b", b"X(: v", b"X: v\r", b"Content-Length : 5", b"Transfer-Encoding\x0b: chunked",
    b"\tX: v", b"X: a\x0cb", b"X-A\t: v",
]  # fmt: skip
PIECES = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"0\r\n\r\n", b"\r\n\r\n", b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1", b"\x0b",
    b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"#", b'"', b"\x7f", b"\x80", b"Connection: x-a\r\n",
    b"-", b"+", b"1",
]  # fmt: skip
ALPHABET = bytes(range(256))
SLIP = 0.04  # the chance of a slip at each place where there can be one


def slip(rng: random.Random) -> bool:
    return rng.random() < SLIP


def line_end(rng: random.Random) -> bytes:
    return rng.choice([b"\n", b"\r", b"\r\r\n", b" \r\n"]) if rng.random() < SLIP / 4 else b"\r\n"


def fill(rng: random.Random, form: bytes, number: int) -> bytes:
    return form % ((number,) * form.count(b"%")) if b"%" in form else form


def chunks(rng: random.Random, body: bytes) -> bytes:
    """Code a body, with extensions and trailers now and then."""
    out, at = b"", 0
    while at < len(body):
        size = rng.randint(1, len(body) - at)
        text = fill(rng, rng.choice(ODD_SIZES), size) if slip(rng) else rng.choice([b"%x", b"%X", b"0%x"]) % size
        if rng.random() < 0.2:
            text += rng.choice(ODD_EXTENSIONS if slip(rng) else EXTENSIONS)
        out += text + line_end(rng) + body[at : at + size] + line_end(rng)
        at += size
    out += rng.choice([b"0", b"0", b"00", b"0;x=y"]) + line_end(rng)
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        out += field(rng, *rng.choice(TRAILERS))
    return out + line_end(rng)


def field(rng: random.Random, name: bytes, value: bytes) -> bytes:
    return (
        name + rng.choice([b": ", b":", b":  ", b":\t"]) + value + rng.choice([b"", b"", b"", b" \t"]) + line_end(rng)
    )


def framed(rng: random.Random, body: bytes) -> tuple[list[bytes], bytes]:
    """The fields that frame a body, and the body as sent."""
    kind = rng.random()
    length = field(
        rng, b"Content-Length", fill(rng, rng.choice(ODD_LENGTHS), len(body)) if slip(rng) else b"%d" % len(body)
    )
    coding = field(
        rng, b"Transfer-Encoding", rng.choice(ODD_CODINGS) if slip(rng) else rng.choice([b"chunked", b"Chunked"])
    )
    if kind < 0.45:
        fields, sent = [length], body
    elif kind < 0.9:
        fields, sent = [coding], chunks(rng, body)
    elif kind < 0.94:
        fields, sent = [length, coding], chunks(rng, body)
    elif kind < 0.97:
        fields, sent = [length, length], body
    else:
        fields, sent = [], b""
    return fields, sent


def request(rng: random.Random) -> bytes:
    """One request, mostly a good one."""
    method = rng.choice([b"get", b"CONNECT", b"G\x00T", b"GE(T", b"M" * 65, b""]) if slip(rng) else rng.choice(METHODS)
    target = rng.choice(ODD_TARGETS if slip(rng) else TARGETS)
    version = rng.choice(ODD_VERSIONS if slip(rng) else VERSIONS)
    space = rng.choice([b"  ", b"\t"]) if rng.random() < SLIP / 4 else b" "
    fields = [field(rng, rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.choice([0, 1, 1, 2, 4]))]
    if not slip(rng):
        fields.append(field(rng, rng.choice([b"Host", b"host"]), rng.choice(ODD_HOSTS if slip(rng) else HOSTS)))
    if slip(rng):
        fields.append(field(rng, b"Host", rng.choice(HOSTS)))
    if rng.random() < 0.2:
        fields.append(field(rng, b"Connection", rng.choice(ODD_CONNECTIONS if slip(rng) else CONNECTIONS)))
    if rng.random() < 0.1:
        fields.append(field(rng, *rng.choice(HOP_BY_HOP)))
    if rng.random() < 0.1:
        fields.append(field(rng, rng.choice(TRUST), b"6.6.6.6"))
    if rng.random() < 0.03:
        fields.append(field(rng, b"Expect", rng.choice([b"100-continue", b"100-Continue", b"other"])))
    if slip(rng):
        fields.append(rng.choice(ODD_FIELDS) + line_end(rng))
    body = b""
    if method not in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"get") or slip(rng):
        framing, body = framed(rng, rng.randbytes(rng.choice([0, 1, 5, 30, 300])))
        fields += framing
    rng.shuffle(fields)
    start = b"\r\n" * (rng.random() < SLIP / 2)
    return start + method + space + target + space + version + line_end(rng) + b"".join(fields) + line_end(rng) + body


def change(rng: random.Random, stream: bytes) -> bytes:
    """Change one place of a stream."""
    at = rng.randint(0, len(stream))
    end = min(len(stream), at + rng.choice([1, 1, 2, 8, 40]))
    kind = rng.randrange(7)
    if kind == 0:
        return stream[:at] + rng.choice(PIECES) + stream[at:]
    if kind == 1:
        return stream[:at] + stream[end:]
    if kind == 2:
        return stream[:at] + bytes([rng.choice(ALPHABET)]) + stream[at + 1 :]
    if kind == 3:
        return stream[:at] + stream[at:end] * 2 + stream[end:]
    if kind == 4:
        return stream[:at] + stream[at:end].swapcase() + stream[end:]
    lines = stream.split(b"\r\n")
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    if kind == 5:
        lines[one], lines[two] = lines[two], lines[one]
    else:
        lines.insert(one, lines[two])
    return b"\r\n".join(lines)


def stream(rng: random.Random, corpus: list[bytes]) -> bytes:
    """One to four requests behind each other, by the grammar or from the corpus, and a few changes."""
    parts = [rng.choice(corpus) if rng.random() < 0.2 else request(rng) for _ in range(rng.choice([1, 1, 2, 3, 4]))]
    out = b"".join(parts)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        out = change(rng, out)
    return out


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """Cut into up to six pieces."""
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.choice([0, 0, 1, 2, 5])))
    return [part for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if (part := data[start:end])]
