"""Header fields and request heads: ours beside multidict, httpx and a map of lists in pure Python.

A reused map is worked on ROUNDS times. Ours checks every name and value that is set; the others take what they get.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from multidict import CIMultiDict

from pingora_c.h1 import probe
from pingora_c.http.header_map import HeaderMap

ROUNDS = 100
FIELDS = [
    ("Host", "www.example.com"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.7,de;q=0.3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "https://www.example.com/articles/2026/11/"),
    ("DNT", "1"),
    ("Cookie", "session=" + "0123456789abcdef" * 8),
    ("Cookie", "theme=dark; consent=all"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("If-None-Match", 'W/"5f3e-1a2b3c4d5e6f"'),
    ("Priority", "u=0, i"),
    ("X-Request-Id", "8c7e2a4b-0d1f-4f7e-9a53-2b1c0d9e8f7a"),
]
TARGET = "/articles/2026/11/a-title-of-some-length?utm_source=feed&page=2"
LINES = "".join(f"{name}: {value}\r\n" for name, value in FIELDS)
WIRE = f"GET {TARGET} HTTP/1.1\r\n{LINES}\r\n".encode()


class DictHeaders:
    """Lower-case name to list of (name, value): what one writes without a library."""

    def __init__(self, fields: list[tuple[str, str]] | None = None) -> None:
        self.rows: dict[str, list[tuple[str, str]]] = {}
        for name, value in fields or ():
            self.add(name, value)

    def get(self, name: str) -> str | None:
        rows = self.rows.get(name.lower())
        return rows[0][1] if rows else None

    def __setitem__(self, name: str, value: str) -> None:
        self.rows[name.lower()] = [(name, value)]

    def add(self, name: str, value: str) -> None:
        self.rows.setdefault(name.lower(), []).append((name, value))

    def items(self) -> Iterator[tuple[str, str]]:
        for rows in self.rows.values():
            yield from rows

    def copy(self) -> "DictHeaders":
        other = DictHeaders()
        other.rows = {key: rows.copy() for key, rows in self.rows.items()}
        return other


@dataclass
class PlainHead:
    """A request head in pure Python."""

    method: str
    target: str
    headers: DictHeaders

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def __copy__(self) -> "PlainHead":
        return PlainHead(self.method, self.target, self.headers.copy())


def look_up(fields) -> None:
    for _ in range(ROUNDS):
        fields.get("user-agent")


def look_up_last(fields) -> None:
    for _ in range(ROUNDS):
        fields.get("x-request-id")


def miss(fields) -> None:
    for _ in range(ROUNDS):
        fields.get("x-not-there")


def replace(fields) -> None:
    for _ in range(ROUNDS):
        fields["X-Request-Id"] = "0d1f2a4b-8c7e-4f7e-9a53-2b1c0d9e8f7a"


def iterate(fields) -> None:
    for _ in range(ROUNDS):
        for _name, _value in fields.items():  # httpx joins fields of one name
            pass


def duplicate(fields) -> None:
    for _ in range(ROUNDS):
        fields.copy()


def build_by_add(fields) -> None:
    make = type(fields)
    for _ in range(ROUNDS):
        built = make()
        for name, value in FIELDS:
            built.add(name, value)


MAPS = {"header_map": HeaderMap, "multidict": CIMultiDict, "httpx": httpx.Headers, "dict_of_lists": DictHeaders}
ON_MAPS = [look_up, look_up_last, miss, replace, iterate, duplicate, build_by_add]
CASES = [
    pytest.param(work, make, id=f"{work.__name__}-{name}")
    for work in ON_MAPS
    for name, make in MAPS.items()
    if hasattr(make, "add") or work is not build_by_add  # httpx has none
]


@pytest.mark.parametrize(("work", "make"), CASES)
def test_header_map(benchmark, work, make):
    fields = make(FIELDS)
    expected = [FIELDS[1][1], FIELDS[-1][1], None]
    assert [fields.get(name) for name in ("user-agent", "x-request-id", "x-not-there")] == expected
    benchmark.group = f"{ROUNDS} times {work.__name__}, {len(FIELDS)} fields"
    benchmark(work, fields)


def read_in_hook(head) -> None:
    for _ in range(ROUNDS):
        taken = head.method, head.path, head.headers.get("host")
    assert taken == ("GET", TARGET.partition("?")[0], "www.example.com")


def replace_in_hook(head) -> None:
    for _ in range(ROUNDS):
        head.headers["X-Request-Id"] = "0d1f2a4b-8c7e-4f7e-9a53-2b1c0d9e8f7a"


def duplicate_head(head) -> None:
    for _ in range(ROUNDS):
        copy.copy(head)


HEADS = {
    "request_head": lambda: probe.load_request(WIRE),
    "plain": lambda: PlainHead("GET", TARGET, DictHeaders(FIELDS)),
}
ON_HEADS = [read_in_hook, replace_in_hook, duplicate_head]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("work", ON_HEADS, ids=lambda work: work.__name__)
def test_request_head(benchmark, work, kind):
    benchmark.group = f"{ROUNDS} times {work.__name__}, {len(FIELDS)} fields"
    benchmark(work, HEADS[kind]())
