"""Requests for the tables of docs/http1.md: what a client sends, what reaches the origin, what comes back."""

from dataclasses import dataclass

LINES = b"GET / HTTP/1.1\r\nHost: a\r\n"
OTHER = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"  # a second request, where it shows that the first has ended


@dataclass(frozen=True)
class Sent:
    """A request, or several, and what the proxy makes of it.

    `row` is that of the document. `reaches` are the requests as the origin gets them, without X-Forwarded-*, a chunked
    body decoded and its trailers behind it. `gets` are what the client is told: "200" of the origin, or the status and
    the reason of a refusal. `closes`: the last answer says that the connection ends.
    """

    row: str
    sent: bytes
    reaches: tuple[bytes, ...] = ()
    gets: tuple[str, ...] = ()
    closes: bool = False


def head(*lines: bytes, body: bytes = b"", start: bytes = b"GET / HTTP/1.1") -> bytes:
    """A request to Host a."""
    return b"\r\n".join([start, b"Host: a", *lines, b"", body])


def passes(row: str, sent: bytes, *reaches: bytes, closes: bool = False) -> Sent:
    """The origin gets `reaches`, by default the same bytes, and its answers arrive."""
    reaches = reaches or (sent,)
    return Sent(row, sent, reaches, ("200",) * len(reaches), closes)


def refused(row: str, verdict: str, *sent: bytes) -> list[Sent]:
    """Each of `sent` is refused, and what follows it is not read."""
    return [Sent(row, one + OTHER, (), (verdict,), closes=True) for one in sent]


def post(*lines: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return head(*lines, body=body, start=b"POST / HTTP/" + version)


def chunked(body: bytes, *lines: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


def bad_chunks(row: str, *bodies: bytes) -> list[Sent]:
    return refused(row, "400 client_bad_body", *(chunked(body) for body in bodies))


GOT_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nhello"
UPGRADE = [b"Connection: upgrade", b"Upgrade: x/1, y"]

START_LINES = [
    passes("empty-line-before", b"\r\n" + head(), head()),
    passes(
        "empty-line-before",
        post(b"Content-Length: 2", body=b"hi\r\n" + head()),
        post(b"Content-Length: 2", body=b"hi"),
        head(),
    ),
    *refused("empty-lines-before", "400 bad_request_line", b"\r\n\r\n" + head()),
    *refused("line-spaces", "400 bad_method", b" " + head(), head(start=b"GET\t/ HTTP/1.1")),
    *refused("line-spaces", "400 bad_target", head(start=b"GET  / HTTP/1.1"), head(start=b"GET /\tHTTP/1.1")),
    *refused("line-spaces", "400 bad_request_line", head(start=b"GET /  HTTP/1.1"), head(start=b"GET / HTTP/1.1 ")),
    *refused("line-without-version", "400 bad_request_line", b"GET /\r\n", head(start=b"GET / ")),
    Sent("line-of-nothing", b"INVALID CONNECTION PREFACE\r\n\r\n" + OTHER),
    Sent("line-of-nothing", b"QUIT\r\n" + OTHER),
    Sent("line-of-nothing", head() + b"QUIT\r\n" + OTHER, (head(),), ("200", "400 bad_request_line"), closes=True),
    *refused(
        "version-form",
        "400 bad_request_line",
        *(
            head(start=b"GET / " + version)
            for version in (b"http/1.1", b"HTTP/1.10", b"HTTP/1", b"HTTP/+1.1", b"HTTQ/1.1")
        ),
    ),
    *refused("version-major", "505 bad_version", head(start=b"GET / HTTP/2.0"), head(start=b"GET / HTTP/0.9")),
    *refused("version-major", "505 bad_version", b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"),
    passes("version-minor", head(start=b"GET / HTTP/1.2"), head()),
    passes("method", head(start=b"PURGE / HTTP/1.1")),
    passes("method", head(start=b"get / HTTP/1.1")),
    passes("method", head(start=b"!#$%&'*+-.^_`|~ / HTTP/1.1")),
    *refused("method-bad", "400 bad_method", head(start=b"G@T / HTTP/1.1"), head(start=b"G\xffT / HTTP/1.1")),
    *refused("method-long", "501 method_too_long", head(start=b"M" * 65 + b" / HTTP/1.1")),
    *refused("connect", "405 connect_refused", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    *refused(
        "trace",
        "405 trace_refused",
        head(start=b"TRACE / HTTP/1.1"),
        head(b"Max-Forwards: 0", start=b"TRACE / HTTP/1.1"),
    ),
]

TARGETS = [
    passes("target", head(start=b"GET /a/../b//c;d?e=f&g=%2f%5C%00 HTTP/1.1")),
    passes("target", head(start=b'GET /\\..\\a"<>^`{|} HTTP/1.1')),
    passes("target", head(start=b"GET /%zz%2?%% HTTP/1.1")),
    passes(
        "target-absolute", head(start=b"GET http://B.c:81/d?e HTTP/1.1"), b"GET /d?e HTTP/1.1\r\nHost: b.c:81\r\n\r\n"
    ),
    passes("target-absolute", head(start=b"GET HTTP://[::A]?b HTTP/1.1"), b"GET /?b HTTP/1.1\r\nHost: [::a]\r\n\r\n"),
    passes(
        "target-absolute-options", head(start=b"OPTIONS http://b HTTP/1.1"), b"OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n"
    ),
    *refused("target-https", "421 wrong_scheme", head(start=b"GET https://a/ HTTP/1.1")),
    passes("target-asterisk", head(start=b"OPTIONS * HTTP/1.1")),
    *refused(
        "target-form",
        "400 bad_target_form",
        *(
            head(start=b"GET " + target + b" HTTP/1.1")
            for target in (
                b"*",
                b"a",
                b"?a",
                b"a:80",
                b"ftp://a/",
                b"http:/a",
                b"http:///a",
                b"http://",
                b"http://u@a/",
                b"http://a:b/",
            )
        ),
        head(start=b"options * HTTP/1.1"),
        b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    *refused(
        "target-octets",
        "400 bad_target",
        *(head(start=b"GET /" + octet + b" HTTP/1.1") for octet in (b"#a", b"\0", b"\x1f", b"\x7f", b"\xc3\xa4")),
    ),
    *refused("target-long", "414 target_too_long", head(start=b"GET /" + b"a" * 100 + b" HTTP/1.1")),
    passes("host", b"GET / HTTP/1.1\r\nhost:  A.B:80 \r\n\r\n", b"GET / HTTP/1.1\r\nhost: a.b:80\r\n\r\n"),
    passes(
        "host",
        b"GET / HTTP/1.1\r\nHost: [::FFFF:1.2.3.4]:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::ffff:1.2.3.4]\r\n\r\n",
    ),
    passes("host", b"GET / HTTP/1.1\r\nHost: Admin.Test.:80\r\n\r\n", b"GET / HTTP/1.1\r\nHost: admin.test:80\r\n\r\n"),
    passes(
        "target-absolute", b"GET http://A.Test./ HTTP/1.1\r\nHost: b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
    ),
    *refused("host-none", "400 no_host", b"GET / HTTP/1.1\r\n\r\n", b"GET http://a/ HTTP/1.1\r\n\r\n"),
    passes("host-none-1.0", b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: ORIGIN\r\n\r\n", closes=True),
    *refused("host-many", "400 many_hosts", head(b"Host: a"), head(b"host: b", start=b"GET / HTTP/1.0")),
    *refused(
        "host-bad",
        "400 bad_host",
        *(
            b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"
            for value in (
                b"",
                b"a,b",
                b"a b",
                b"u@a",
                b"a/b",
                b"a:b",
                b"a:65536",
                b"admin.test..",
                b".admin.test",
                b"admin..test",
                b".",
                b"a%2eb",
                b"%61dmin.test",
                b"[::1",
                b"::1",
                b"[a]",
                b"\xc3\xa4",
                b'"a"',
            )
        ),
    ),
]

FIELDS = [
    passes("field", head(b"X-A: b", b"x-a: c\t\xff d", b"!#$%&'*+-.^_`|~: e", b"X-A: b")),
    passes(
        "field-white-space", LINES + b"A:b\r\nC:\t d \t\r\nE:\r\nF: \r\n\r\n", head(b"A: b", b"C: d", b"E: ", b"F: ")
    ),
    *refused(
        "field-name",
        "400 bad_field_name",
        *(head(line) for line in (b"A : b", b"A\t: b", b": b", b"A", b"A\0: b", b"A(): b", b"\xc3\xa4: b", b"A b: c")),
    ),
    *refused(
        "field-fold",
        "400 bad_field_name",
        head(b"A: b", b" c"),
        head(b"A: b", b"\tc"),
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    ),
    *refused(
        "field-value",
        "400 bad_field_value",
        *(head(b"A: b" + octet + b"c") for octet in (b"\0", b"\x0b", b"\x1f", b"\x7f")),
    ),
    *refused(
        "line-end",
        "400 bad_line_end",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        head(b"A: b\rc"),
        head(b"A: b\r\rc"),
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\rA: b\r\n\r\n",
        b"\n" + head(),
        b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    ),
    *refused("fields-many", "431 too_many_fields", head(*(b"A: b" for _ in range(12)))),
    *refused("head-large", "431 head_too_large", head(b"A: " + b"b" * 600)),
    *refused(
        "field-alias",
        "400 framing_alias",
        post(b"Content_Length: 34"),
        post(b"transfer_encoding: chunked", body=b"0\r\n\r\n"),
    ),
]

FRAMING = [
    passes("length", post(b"Content-Length: 5", body=b"hello")),
    passes("length", post(b"Content-Length: 0") + OTHER, post(b"Content-Length: 0"), OTHER),
    passes(
        "length", head(b"content-length: 005", body=b"hello" + OTHER), head(b"Content-Length: 5", body=b"hello"), OTHER
    ),
    passes("length", post(b"Content-Length: 31", body=OTHER + OTHER), post(b"Content-Length: 31", body=OTHER), OTHER),
    *refused(
        "length-bad",
        "400 bad_content_length",
        *(
            post(b"Content-Length: " + value, body=b"hello")
            for value in (
                b"",
                b"+5",
                b"-5",
                b"5x",
                b"0x5",
                b"5.0",
                b"5 5",
                b"5,5",
                b"5, 5",
                b"9223372036854775808",
                b"18446744073709551621",
            )
        ),
        post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
        post(b"Content-Length: 5", b"content-length: 6", body=b"hello"),
    ),
    passes("body-none", post() + OTHER, post(), OTHER),
    passes("coding", chunked(b"5\r\nhello\r\n0\r\n\r\n") + OTHER, GOT_CHUNKED, OTHER),
    passes("coding", post(b"transfer-encoding: CHUNKED", body=b"2\r\nhe\r\n003\r\nllo\r\n000\r\n\r\n"), GOT_CHUNKED),
    *refused(
        "coding-unknown",
        "501 unknown_transfer_coding",
        *(post(b"Transfer-Encoding: " + value) for value in (b"gzip", b"gzip, chunked", b"identity", b"xchunked")),
    ),
    *refused(
        "coding-bad",
        "400 bad_transfer_encoding",
        *(
            post(b"Transfer-Encoding: " + value, body=b"0\r\n\r\n")
            for value in (
                b"",
                b"chunked, chunked",
                b"chunked, gzip",
                b"chunked;q=1",
                b'"chunked"',
                b", chunked",
                b"chunked,",
            )
        ),
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    *refused("coding-bad", "400 bad_field_value", post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    *refused(
        "coding-1.0", "400 coding_in_http10", post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", version=b"1.0")
    ),
    *refused(
        "length-and-coding",
        "400 length_and_coding",
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=b"0\r\n\r\n"),
    ),
    *bad_chunks(
        "chunk-size",
        b"\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"00000000000000005\r\nhello\r\n",
        b"8000000000000000\r\n",
        b"10000000000000005\r\nhello\r\n",
        b" 5\r\nhello\r\n",
    ),
    passes(
        "chunk-extension", chunked(b'5;a;b=c;d="e;\\"\r";f\r\nhello\r\n0;g\r\n\r\n'.replace(b'\r"', b'"')), GOT_CHUNKED
    ),
    passes("chunk-extension", chunked(b"5 ; a = b\r\nhello\r\n0\t;c\r\n\r\n"), GOT_CHUNKED),
    *bad_chunks(
        "chunk-extension-bad",
        b"5;\r\nhello\r\n",
        b"5;a=\r\nhello\r\n",
        b'5;a="b\r\nhello\r\n',
        b"5;a b\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;\0\r\nhello\r\n",
    ),
    *bad_chunks("chunk-line-long", b"5;a=" + b"b" * 4096 + b"\r\nhello\r\n"),
    *refused(
        "chunk-extensions-large",
        "400 chunk_extensions_too_large",
        chunked((b"1;a=" + b"b" * 4000 + b"\r\nx\r\n") * 5 + b"0\r\n\r\n"),
    ),
    *bad_chunks(
        "chunk-line-end",
        b"5\nhello\r\n",
        b"5\r\nhello\n",
        b"5\r\nhelloX\r\n",
        b"5\rhello\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
    ),
    passes(
        "trailers",
        chunked(b"5\r\nhello\r\n0\r\nX-A:  b \r\nx-c: d\r\n\r\n") + OTHER,
        GOT_CHUNKED + b"X-A: b\r\nx-c: d\r\n",
        OTHER,
    ),
    passes(
        "trailers-forbidden",
        chunked(
            b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\nHost: b\r\n"
            b"Authorization: c\r\nCookie: d\r\nTE: e\r\n"
            b"X-Forwarded-For: 6.6.6.6\r\nx_forwarded_for: 6.6.6.6\r\nConnection: x\r\nTrailer: y\r\nX-A: b\r\n\r\n"
        ),
        GOT_CHUNKED + b"X-A: b\r\n",
    ),
    passes(
        "trailers-forbidden",
        chunked(
            b"5\r\nhello\r\n0\r\nContent_Length: 5\r\ntransfer_encoding: chunked\r\nX_Real-IP: 6.6.6.6\r\n"
            b"Max_Forwards: 1\r\nIf_None-Match: c\r\nX_A: b\r\n\r\n"
        ),
        GOT_CHUNKED + b"X_A: b\r\n",
    ),
    passes(
        "trailers-named",
        chunked(b"5\r\nhello\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n", b"Connection: close, x-a"),
        GOT_CHUNKED + b"X-C: d\r\n",
        closes=True,
    ),
    *bad_chunks(
        "trailers-bad",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: \0\r\n\r\n",
        b"0\r\nA\r\n\r\n",
    ),
    passes(
        "pipelined",
        head() + chunked(b"5\r\nhello\r\n0\r\n\r\n") + post(b"Content-Length: 2", body=b"hi") + OTHER,
        head(),
        GOT_CHUNKED,
        post(b"Content-Length: 2", body=b"hi"),
        OTHER,
    ),
    Sent("pipelined-bad", head() + head(b"A : b") + OTHER, (head(),), ("200", "400 bad_field_name"), closes=True),
]

CONNECTION = [
    passes("connection-close", head(b"Connection: close") + OTHER, head(), closes=True),
    passes("connection-close", head(b"connection: x, CLOSE ,, keep-alive") + OTHER, head(), closes=True),
    passes("connection-1.0", head(start=b"GET / HTTP/1.0") + OTHER, head(), closes=True),
    passes("connection-1.0", head(b"Connection: keep-alive", start=b"GET / HTTP/1.0") + OTHER, head(), OTHER),
    passes(
        "connection-names", head(b"X-A: b", b"Connection: x-a, X-C", b"x-c: d", b"X-E: f", b"X-A: g"), head(b"X-E: f")
    ),
    passes("connection-names", head(b"Authorization: b", b"Connection: authorization"), head()),
    passes(
        "connection-names-kept",
        post(b"Date: b", b"Connection: host, date, content-length, x-forwarded-for", b"Content-Length: 2", body=b"hi"),
        post(b"Date: b", b"Content-Length: 2", body=b"hi"),
    ),
    passes("connection-empty-members", head(b"Connection: ,, x-a\t,", b"Connection:", b"X-A: b"), head()),
    *refused(
        "connection-bad",
        "400 bad_connection",
        *(head(b"Connection: " + value) for value in (b"a b", b'"close"', b"a;b", b"a=b")),
    ),
    *refused("connection-bad", "400 bad_connection", head(b"Connection: " + b"a," * 65)),
    passes(
        "hop-by-hop",
        head(
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: close",
            b"TE: gzip",
            b"HTTP2-Settings: AAMA",
            b"Upgrade: x",
            b"X-A: b",
        ),
        head(b"X-A: b"),
    ),
    passes("te-trailers", head(b"TE: gzip, Trailers", b"Connection: te"), head(b"TE: trailers", b"Connection: TE")),
    passes("te-unnamed", head(b"TE: trailers"), head()),
    passes("te-unnamed", head(b"TE: trailers", b"Connection: te", start=b"GET / HTTP/1.0"), head(), closes=True),
    passes("expect", post(b"Expect: 100-Continue", b"Content-Length: 2", body=b"hi")),
    *refused(
        "expect-unknown",
        "417 unknown_expectation",
        head(b"Expect: a"),
        post(b"Expect: 100-continue, a=b", b"Content-Length: 2", body=b"hi"),
    ),
    passes("expect-dropped", head(b"Expect: 100-continue") + OTHER, head(), OTHER),
    passes(
        "expect-dropped",
        post(b"Expect: a", b"Content-Length: 2", body=b"hi", version=b"1.0"),
        post(b"Content-Length: 2", body=b"hi"),
        closes=True,
    ),
    passes("upgrade", head(*UPGRADE) + OTHER, head(b"Upgrade: x/1, y", b"Connection: upgrade"), closes=True),
    passes(
        "upgrade",
        head(b"Upgrade: x", b"TE: trailers", b"Connection: upgrade, te", b"Upgrade: y"),
        head(b"Upgrade: x", b"Upgrade: y", b"TE: trailers", b"Connection: upgrade, TE"),
        closes=True,
    ),
    passes("upgrade-dropped", head(b"Upgrade: x") + OTHER, head(), OTHER),
    passes("upgrade-dropped", head(*UPGRADE, start=b"GET / HTTP/1.0"), head(), closes=True),
    passes("upgrade-dropped", head(b"Connection: upgrade", b"Upgrade: ,") + OTHER, head(), OTHER),
    passes(
        "upgrade-body",
        post(*UPGRADE, b"Content-Length: 2", body=b"hi") + OTHER,
        post(b"Content-Length: 2", body=b"hi"),
        OTHER,
    ),
    passes("upgrade-body", chunked(b"5\r\nhello\r\n0\r\n\r\n", *UPGRADE) + OTHER, GOT_CHUNKED, OTHER),
    *(
        passes("upgrade-http", head(b"Connection: upgrade", b"Upgrade: " + value) + OTHER, head(), OTHER)
        for value in (b"h2c", b"H2", b"HTTP/2.0", b"TLS/1.0", b"x, h2c")
    ),
    *refused(
        "upgrade-bad",
        "400 bad_upgrade",
        *(head(b"Connection: upgrade", b"Upgrade: " + value) for value in (b"a b", b"a/", b"/1", b"a/1/2")),
    ),
    passes(
        "max-forwards",
        head(b"Max-Forwards: 10", start=b"OPTIONS * HTTP/1.1"),
        head(b"Max-Forwards: 9", start=b"OPTIONS * HTTP/1.1"),
    ),
    *(
        Sent("max-forwards-zero", head(*lines, start=b"OPTIONS /a HTTP/1.1") + OTHER, (OTHER,), ("200", "200"))
        for lines in ([b"Max-Forwards: 0"], [b"Connection: max-forwards", b"Max-Forwards: 0"])
    ),
    *refused(
        "max-forwards-bad",
        "400 bad_max_forwards",
        *(head(b"Max-Forwards: " + value, start=b"OPTIONS * HTTP/1.1") for value in (b"", b"-1", b"1, 2", b"1" * 19)),
    ),
    *refused(
        "max-forwards-bad",
        "400 bad_max_forwards",
        head(b"Max-Forwards: 1", b"Max-Forwards: 1", start=b"OPTIONS * HTTP/1.1"),
    ),
    passes("max-forwards-other", head(b"Max-Forwards: 0x")),
    passes(
        "forwarding",
        head(
            b"X-Forwarded-For: 6.6.6.6",
            b"X_Forwarded_Proto: b",
            b"X-Forwarded-Prefix: /c",
            b"Forwarded: for=d",
            b"X-Real-IP: e",
            b"X-A: f",
        ),
        head(b"X-A: f"),
    ),
    passes(
        "forwarding",
        head(
            b"x_real_ip: e",
            b"True-Client-IP: e",
            b"X_Client-IP: e",
            b"X-Cluster-Client-Ip: e",
            b"Client-IP: e",
            b"Proxy: e",
            b"X-A: f",
            b"Proxys: g",
        ),
        head(b"X-A: f", b"Proxys: g"),
    ),
    passes(
        "forwarding",
        head(
            b"CF-Connecting-IP: e",
            b"Fastly-Client-IP: e",
            b"X-Azure-ClientIP: e",
            b"X-Original-URL: /e",
            b"X-Rewrite-URL: /e",
            b"X-A: f",
        ),
        head(b"X-A: f"),
    ),
    passes("proxy-authorization", head(b"Proxy-Authorization: Basic Yjpj")),
]

REQUESTS = [*START_LINES, *TARGETS, *FIELDS, *FRAMING, *CONNECTION]
