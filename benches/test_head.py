"""Parsing a request head: ours with and without Python objects, httptools, and the slow reference.

Each row parses HEADS_A_ROUND heads. "codec" is what the proxy does: spans, no object.
"""

import httptools
import pytest
import slow_head

from pingora_c.h1 import head

HEADS_A_ROUND = 100

SMALL = b"GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"
BROWSER = (
    b"GET /articles/2026/11/a-title-of-some-length?utm_source=feed&page=2 HTTP/1.1\r\n"
    b"Host: www.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Referer: https://www.example.com/articles/2026/11/\r\n"
    b"DNT: 1\r\n"
    b"Connection: keep-alive\r\n"
    b"Cookie: session=" + b"0123456789abcdef" * 8 + b"; theme=dark; consent=all\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"Sec-Fetch-Dest: document\r\n"
    b"Sec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-Site: same-origin\r\n"
    b'If-None-Match: W/"5f3e-1a2b3c4d5e6f"\r\n'
    b"Priority: u=0, i\r\n"
    b"\r\n"
)
LARGE = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Some-Field: %s\r\n" % (b"v" * 100) * 60 + b"\r\n"
HEADS = {"small": SMALL, "browser": BROWSER, "large": LARGE}


class Collector:
    """Take what httptools finds, as its users do."""

    def on_message_begin(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


class Silent:
    """Take nothing: what llhttp itself costs."""


def codec(data: bytes) -> None:
    assert head.repeat_request(data, HEADS_A_ROUND) == len(data)


def objects(data: bytes) -> None:
    for _ in range(HEADS_A_ROUND):
        head.parse_request(data)


def reference(data: bytes) -> None:
    for _ in range(HEADS_A_ROUND):
        slow_head.parse_request(data)


def with_httptools(data: bytes) -> None:
    parser = httptools.HttpRequestParser(Collector())
    for _ in range(HEADS_A_ROUND):
        parser.feed_data(data)


def with_silent_httptools(data: bytes) -> None:
    parser = httptools.HttpRequestParser(Silent())
    for _ in range(HEADS_A_ROUND):
        parser.feed_data(data)


PARSERS = [codec, objects, with_httptools, with_silent_httptools, reference]


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@pytest.mark.parametrize("name", HEADS)
def test_request_head(benchmark, name, parse):
    data = HEADS[name]
    benchmark.group = f"{HEADS_A_ROUND} heads, {name}, {len(data)} bytes each"
    benchmark(parse, data)
