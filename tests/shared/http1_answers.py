"""Answers of HTTP/1.1 for the tables of docs/http1.md: what an origin sends, and what reaches the client."""

from dataclasses import dataclass

from http1_requests import head

GET = head(b"Connection: close")
GET_1_0 = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
HEAD = head(b"Connection: close", start=b"HEAD / HTTP/1.1")
UPGRADE = head(b"Connection: upgrade", b"Upgrade: x/1, y")
BAD = b"HTTP/1.1 502 "


@dataclass(frozen=True)
class Answered:
    """An answer, or several, and what the client gets.

    `row` is that of the document. `gets` is the answer without Date and Connection: close, a chunked body decoded and
    its trailers behind it; or "502 reason". `is_cut`: the client can see that its end is missing. `ends`: the origin
    ends its side behind it. `is_kept`: the connection to the origin is used again.
    """

    row: str
    sent: bytes
    gets: bytes | str
    asked: bytes = GET
    ends: bool = False
    is_cut: bool = False
    is_kept: bool = False


def answer(*lines: bytes, body: bytes = b"", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([start, *lines, b"", body])


def length(body: bytes, *lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return answer(*lines, b"Content-Length: %d" % len(body), body=body, start=start)


def coded(body: bytes, *lines: bytes) -> bytes:
    return answer(*lines, b"Transfer-Encoding: chunked", body=body)


def bad(row: str, *sent: bytes, asked: bytes = GET) -> list[Answered]:
    """Each of `sent` is answered with 502 in its stead."""
    return [Answered(row, one, "502 upstream_bad_head", asked) for one in sent]


def cut(row: str, gets: bytes, *sent: bytes, ends: bool = False) -> list[Answered]:
    return [Answered(row, one, gets, ends=ends, is_cut=True) for one in sent]


HI = length(b"hi")
RESET = b"HTTP/1.1 205 Reset Content"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
GOT_CODED = answer(b"Transfer-Encoding: chunked", body=b"hello")
CHUNKS = answer(b"Transfer-Encoding: chunked")

START_LINES = [
    Answered(
        "status-line",
        length(b"hi", start=b"HTTP/1.1 404 Gone \xff\tfishing"),
        length(b"hi", start=b"HTTP/1.1 404 Gone \xff\tfishing"),
        is_kept=True,
    ),
    Answered("status-line", length(b"hi", start=b"HTTP/1.1 599 "), length(b"hi", start=b"HTTP/1.1 599 "), is_kept=True),
    Answered(
        "status-reason",
        length(b"hi", start=b"HTTP/1.1 404"),
        length(b"hi", start=b"HTTP/1.1 404 Not Found"),
        is_kept=True,
    ),
    *bad(
        "status-line-bad",
        *(
            length(b"hi", start=line)
            for line in (
                b"HTTP/1.1  200 OK",
                b"HTTP/1.1 2x0 OK",
                b"HTTP/1.1 20 OK",
                b"HTTP/1.1 2000 OK",
                b"HTTP/1.1 200OK",
                b"http/1.1 200 OK",
            )
        ),
        *(
            length(b"hi", start=line)
            for line in (
                b"HTTP/1.1 200 O\0K",
                b"HTTP/1.1 200 O\rK",
                b"HTTP/1.1 200 OK\n",
                b"200 OK",
                b"ICY 200 OK",
                b" HTTP/1.1 200 OK",
            )
        ),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\r\n" + HI,
    ),
    *bad(
        "status-range",
        *(length(b"hi", start=b"HTTP/1.1 " + status + b" OK") for status in (b"000", b"099", b"600", b"999")),
    ),
    Answered("version-1.0", length(b"hi", start=b"HTTP/1.0 200 OK"), HI),
    Answered("version-1.0", length(b"hi", b"Connection: keep-alive", start=b"HTTP/1.0 200 OK"), HI, is_kept=True),
    Answered("version-1.0", length(b"hi", start=b"HTTP/1.2 200 OK"), HI, is_kept=True),
    *bad(
        "version-other",
        length(b"hi", start=b"HTTP/2.0 200 OK"),
        length(b"hi", start=b"HTTP/0.9 200 OK"),
        length(b"hi", start=b"HTTP/1.10 200 OK"),
    ),
]

FIELDS = [
    Answered(
        "answer-field",
        length(b"hi", b"X-A: b", b"x-a:\tc\xff \t", b"X-C:"),
        length(b"hi", b"X-A: b", b"x-a: c\xff", b"X-C: "),
        is_kept=True,
    ),
    *bad(
        "answer-field-bad",
        *(
            length(b"hi", line)
            for line in (
                b"A : b",
                b": b",
                b"A",
                b"A b: c",
                b"A: b\r\n c",
                b"A: \0",
                b"A: \x7f",
                b"A: b\rc",
                b"A: b\n",
                b"\nA: b",
            )
        ),
        length(b"hi", start=b"HTTP/1.1 200 OK\r\n A: b"),
    ),
    *bad("answer-field-alias", answer(b"Content_Length: 2", body=b"hi")),
    Answered("answer-date", length(b"hi"), HI, is_kept=True),
    Answered(
        "answer-connection-names",
        length(b"hi", b"X-A: b", b"Connection: x-a, x-c", b"X-C: d", b"X-E: f"),
        length(b"hi", b"X-E: f"),
        is_kept=True,
    ),
    *bad("answer-connection-bad", length(b"hi", b"Connection: a b")),
    Answered("answer-connection-close", length(b"hi", b"Connection: close"), HI),
    Answered(
        "answer-hop-by-hop",
        length(b"hi", b"Keep-Alive: timeout=5", b"Proxy-Connection: x", b"TE: x", b"Upgrade: x", b"X-A: b"),
        length(b"hi", b"X-A: b"),
        is_kept=True,
    ),
    Answered(
        "answer-426",
        length(b"hi", b"Upgrade: x", b"Connection: upgrade", start=b"HTTP/1.1 426 Upgrade Required"),
        answer(
            b"Upgrade: x",
            b"Content-Length: 2",
            b"Connection: upgrade, close",  # the client asked for the end
            body=b"hi",
            start=b"HTTP/1.1 426 Upgrade Required",
        ),
        is_kept=True,
    ),
]

FRAMING = [
    Answered("answer-length", HI, HI, is_kept=True),
    Answered("answer-length", answer(b"content-length: 002", body=b"hi"), HI, is_kept=True),
    Answered("answer-length", length(b""), length(b""), is_kept=True),
    *bad(
        "answer-length-bad",
        *(
            answer(b"Content-Length: " + value, body=b"hello")
            for value in (b"", b"+5", b"5x", b"-1", b"5, 5", b"5 5", b"18446744073709551621")
        ),
        answer(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
        answer(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    ),
    Answered("answer-chunked", coded(HELLO), GOT_CODED, is_kept=True),
    Answered("answer-chunked", coded(b'2;a="b;"\r\nhe\r\n003 ;c\r\nllo\r\n00;d=e\r\n\r\n'), GOT_CODED, is_kept=True),
    Answered("answer-chunked-1.0", coded(HELLO), answer(body=b"hello"), GET_1_0, is_kept=True),
    *bad(
        "answer-coding-bad",
        *(
            answer(b"Transfer-Encoding: " + value, body=HELLO)
            for value in (b"", b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity")
        ),
        answer(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=HELLO),
        answer(b"Transfer-Encoding: chunked", body=HELLO, start=b"HTTP/1.0 200 OK"),
    ),
    *bad("answer-length-and-coding", answer(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=HELLO)),
    Answered("answer-to-the-end", answer(body=b"hello"), GOT_CODED, ends=True),
    Answered(
        "answer-to-the-end", answer(body=b"hello", start=b"HTTP/1.0 200 OK"), answer(body=b"hello"), GET_1_0, ends=True
    ),
    *cut(
        "answer-truncated",
        answer(b"Content-Length: 9", body=b"hello"),
        answer(b"Content-Length: 9", body=b"hello"),
        ends=True,
    ),
    *cut(
        "answer-truncated",
        GOT_CODED,
        coded(b"5\r\nhello\r\n"),
        coded(b"9\r\nhello"),
        coded(b"5\r\nhello\r\n0\r\n"),
        ends=True,
    ),
    *(
        Answered("answer-none", part, "502 upstream_closed", ends=True)
        for part in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
    ),
    *cut(
        "answer-chunk-bad",
        CHUNKS,
        coded(b"\r\n"),
        coded(b"+5\r\nhello\r\n"),
        coded(b"g\r\n"),
        coded(b"5;\r\nhello\r\n"),
        coded(b"5\nhello\r\n"),
    ),
    *cut(
        "answer-chunk-bad",
        GOT_CODED,
        coded(b"5\r\nhello\n"),
        coded(b"5\r\nhelloX"),
        coded(b"5\r\nhello\r\n0\r\nA : b\r\n\r\n"),
    ),
    *cut(
        "answer-chunk-bad",
        answer(b"Transfer-Encoding: chunked", body=b"xxxx"),
        coded((b"1;a=" + b"b" * 4000 + b"\r\nx\r\n") * 5 + b"0\r\n\r\n"),
    ),
    Answered("answer-trailers", coded(b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n"), GOT_CODED + b"X-A: b\r\n", is_kept=True),
    Answered(
        "answer-trailers-dropped",
        coded(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nSet-Cookie: a\r\nX-A: b\r\nX-C: d\r\n\r\n", b"Connection: x-a"),
        GOT_CODED + b"X-C: d\r\n",
        is_kept=True,
    ),
    Answered(
        "answer-trailers-dropped",
        coded(b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n"),
        answer(body=b"hello"),
        GET_1_0,
        is_kept=True,
    ),
    Answered(
        "answer-trailers-dropped",
        coded(b"5\r\nhello\r\n0\r\nSet_Cookie: a\r\nContent_Length: 5\r\nContent_Range: b\r\nX_A: c\r\n\r\n"),
        answer(b"Transfer-Encoding: chunked", body=b"helloX_A: c\r\n"),
        is_kept=True,
    ),
    Answered("answer-head", answer(b"Content-Length: 5"), answer(b"Content-Length: 5"), HEAD, is_kept=True),
    Answered("answer-head", answer(b"Transfer-Encoding: chunked"), answer(), HEAD, is_kept=True),
    Answered("answer-head", answer(), answer(), HEAD, is_kept=True),
    Answered(
        "answer-204", answer(start=b"HTTP/1.1 204 No Content"), answer(start=b"HTTP/1.1 204 No Content"), is_kept=True
    ),
    Answered(
        "answer-204",
        length(b"", start=b"HTTP/1.1 204 No Content"),
        answer(start=b"HTTP/1.1 204 No Content"),
        is_kept=True,
    ),
    *bad(
        "answer-204-body",
        length(b"hi", start=b"HTTP/1.1 204 No Content"),
        answer(b"Transfer-Encoding: chunked", start=b"HTTP/1.1 204 No Content"),
    ),
    Answered("answer-205", length(b"", start=RESET), length(b"", start=RESET), is_kept=True),
    Answered("answer-205", answer(start=RESET), length(b"", start=RESET), ends=True),
    Answered(
        "answer-205",
        answer(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", start=RESET),
        length(b"", start=RESET),
        is_kept=True,
    ),
    Answered(
        "answer-205",
        answer(b"Transfer-Encoding: chunked", body=HELLO, start=RESET),
        length(b"", start=RESET),
        is_kept=True,
    ),
    *bad("answer-205-body", length(b"hi", start=RESET)),
    Answered(
        "answer-304",
        answer(b"Content-Length: 5", start=b"HTTP/1.1 304 Not Modified"),
        answer(b"Content-Length: 5", start=b"HTTP/1.1 304 Not Modified"),
        is_kept=True,
    ),
    Answered(
        "answer-304",
        answer(start=b"HTTP/1.1 304 Not Modified"),
        answer(start=b"HTTP/1.1 304 Not Modified"),
        is_kept=True,
    ),
    Answered("answer-behind", HI + HI, HI),
    Answered("answer-behind", HI + b"x", HI),
    Answered("answer-behind", coded(HELLO) + b"\r\n", GOT_CODED),
    Answered(
        "answer-behind", answer(start=b"HTTP/1.1 204 No Content") + b"hello", answer(start=b"HTTP/1.1 204 No Content")
    ),
    Answered("answer-behind", HI, answer(b"Content-Length: 2"), HEAD),
]

HINTS = answer(b"Link: a", b"X-B: c", b"Connection: x-b", start=b"HTTP/1.1 103 Early Hints")
CONTINUE = answer(start=b"HTTP/1.1 100 Continue")
SWITCH = answer(b"Upgrade: Y", b"Connection: upgrade", start=b"HTTP/1.1 101 Switching Protocols")

INTERIM = [
    Answered(
        "answer-interim",
        CONTINUE + HINTS + HI,
        CONTINUE + answer(b"Link: a", start=b"HTTP/1.1 103 Early Hints") + HI,
        is_kept=True,
    ),
    Answered(
        "answer-interim", length(b"", start=b"HTTP/1.1 199 X") + HI, answer(start=b"HTTP/1.1 199 X") + HI, is_kept=True
    ),
    Answered("answer-interim-1.0", CONTINUE + HINTS + HI, HI, GET_1_0, is_kept=True),
    *bad(
        "answer-interim-body",
        length(b"hi", start=b"HTTP/1.1 103 X") + HI,
        answer(b"Transfer-Encoding: chunked", start=b"HTTP/1.1 100 X") + HI,
    ),
    Answered("answer-interim-many", CONTINUE * 17 + HI, CONTINUE * 16 + b"502 upstream_bad_head"),
    Answered("answer-switch", SWITCH + b"bytes", SWITCH + b"bytes", UPGRADE, ends=True),
    *bad("answer-switch-unasked", SWITCH, answer(b"Upgrade: h2c", b"Connection: upgrade", start=b"HTTP/1.1 101 X")),
    *bad(
        "answer-switch-other",
        *(
            answer(*lines, start=b"HTTP/1.1 101 X")
            for lines in ([b"Upgrade: z", b"Connection: upgrade"], [b"Upgrade: y"], [b"Connection: upgrade"], [])
        ),
        answer(b"Upgrade: y", b"Connection: upgrade", start=b"HTTP/1.0 101 X"),
        answer(b"Upgrade: y", b"Connection: upgrade", b"Content-Length: 2", start=b"HTTP/1.1 101 X"),
        asked=UPGRADE,
    ),
]

ANSWERS = [*START_LINES, *FIELDS, *FRAMING, *INTERIM]
