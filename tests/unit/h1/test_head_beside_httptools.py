"""The head parser beside httptools (llhttp): every disagreement is one of those explained here.

Both judge the same heads, each with one byte left out, replaced or put in. Where llhttp waits for more bytes at a line
that has ended badly, or both refuse for different reasons, they agree.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httptools
import pytest

from pingora_c.h1 import head, target

REQUEST = b"GET /p?q HTTP/1.1\r\nHost: a\r\nX-Y:\t z w \r\n\r\n"
RESPONSE = b"HTTP/1.1 200 Ok\r\nServer: a\r\nX-Y:\t z w \r\n\r\n"
MORE = "more"


@dataclass
class Seen:
    """What httptools told."""

    target: bytes = b""
    reason: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    is_complete: bool = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_status(self, part: bytes) -> None:
        self.reason += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_complete = True


def theirs(data: bytes, is_request: bool) -> tuple | str:
    """Return the parts of the head, MORE or the reason for which it is refused."""
    seen = Seen()
    parser = httptools.HttpRequestParser(seen) if is_request else httptools.HttpResponseParser(seen)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        if not seen.is_complete:  # what follows the head is not compared
            return f"{type(error).__name__}: {error}"
    if not seen.is_complete:
        return MORE
    start = (parser.get_method(), seen.target) if is_request else (parser.get_status_code(), seen.reason)
    return (*start, parser.get_http_version(), seen.fields)


def ours(data: bytes, is_request: bool) -> tuple | str:
    """Return the same of our parser."""
    answer = head.parse_request(data) if is_request else head.parse_response(data)
    if isinstance(answer, int):
        return MORE if answer == -1 else head.head_reason(answer)
    return (*answer[1:3], f"1.{answer[3]}", [(name, value) for name, value, _ in answer[4]])


def trimmed(answer: tuple) -> tuple:
    """Return an answer without the white space behind values."""
    return (*answer[:3], [(name, value.rstrip(b" \t")) for name, value in answer[3]])


@dataclass(frozen=True)
class Disagreement:
    """A kind of disagreement and why it is ours that is right."""

    why: str
    is_met: Callable[[bytes, tuple | str, tuple | str], bool]


DISAGREEMENTS = [
    Disagreement(
        "white space behind a value is no part of it (RFC 9112 §5); llhttp leaves it to its user",
        lambda data, us, them: isinstance(us, tuple) and isinstance(them, tuple) and us == trimmed(them),
    ),
    Disagreement(
        "any token is a method (RFC 9110 §9.1); llhttp has a list",
        lambda data, us, them: isinstance(us, tuple) and "method" in them,
    ),
    Disagreement(
        "a minor version above 1 is read as 1 (RFC 9110 §2.5); llhttp knows 0.9, 1.0, 1.1 and 2.0",
        lambda data, us, them: isinstance(us, tuple) and "Invalid HTTP version" in them and b"HTTP/1." in data,
    ),
    Disagreement(
        "the form of a target is checked with its method, by h1.target, which refuses these too (RFC 9112 §3.2)",
        lambda data, us, them: (
            isinstance(us, tuple) and "in url" in them and target.target_authority(us[0], us[1]) == -10
        ),
    ),
    Disagreement(
        "one empty line may stand before a request, it ends with CRLF, none before a response (RFC 9112 §2.2);"
        " llhttp skips any CR and LF",
        lambda data, us, them: (
            us in ("bad_line_end", "bad_status_line") and isinstance(them, tuple) and data[0] in b"\r\n"
        ),
    ),
    Disagreement(
        "HTTP/0.9 has no fields and is not served; llhttp reads a line without a version as 0.9",
        lambda data, us, them: us == "bad_request_line" and isinstance(them, tuple) and them[2] == "0.9",
    ),
    Disagreement(
        "one space stands between the words of a request line (RFC 9112 §3); llhttp skips several",
        lambda data, us, them: (
            us in ("bad_target", "bad_request_line") and isinstance(them, tuple) and b"  " in data.splitlines()[0]
        ),
    ),
    Disagreement(
        "a fragment is never sent (RFC 9110 §7.1); llhttp lets it pass",
        lambda data, us, them: us == "bad_target" and isinstance(them, tuple) and b"#" in them[1],
    ),
    Disagreement(
        "a reason phrase holds no control byte (RFC 9112 §4); llhttp takes all but CR and LF",
        lambda data, us, them: (
            us == "bad_status_line" and isinstance(them, tuple) and any(c < 32 or c == 127 for c in them[1])
        ),
    ),
    Disagreement(
        "a status is 100 to 599 (RFC 9110 §15); llhttp takes any three digits",
        lambda data, us, them: us == "bad_status_line" and isinstance(them, tuple) and not 100 <= them[0] <= 599,
    ),
]
ONLY_REQUESTS = {1, 3, 5, 6, 7}
ONLY_RESPONSES = {8, 9}


def changed(base: bytes) -> Iterator[bytes]:
    for at in range(len(base) + 1):
        yield base[:at] + base[at + 1 :]
        for octet in range(256):
            yield base[:at] + bytes([octet]) + base[at:]
            yield base[:at] + bytes([octet]) + base[at + 1 :]


def is_agreement(us: tuple | str, them: tuple | str) -> bool:
    if us == them:
        return True
    # We hold a verdict back until the line has ended, llhttp does not.
    return isinstance(us, str) and isinstance(them, str) and them != MORE


@pytest.mark.parametrize("is_request", [True, False], ids=["request", "response"])
def test_every_disagreement_with_httptools_is_explained(is_request):
    met: Counter[int] = Counter()
    for data in changed(REQUEST if is_request else RESPONSE):
        us, them = ours(data, is_request), theirs(data, is_request)
        if is_agreement(us, them):
            continue
        if isinstance(us, tuple) and isinstance(them, tuple) and us != trimmed(them):
            pytest.fail(f"{data!r}: we read {us}, httptools {them}")
        reasons = [i for i, row in enumerate(DISAGREEMENTS) if row.is_met(data, us, them)]
        assert reasons, f"{data!r}: we say {us}, httptools {them}"
        met.update(reasons)
    assert set(met) == set(range(len(DISAGREEMENTS))) - (ONLY_RESPONSES if is_request else ONLY_REQUESTS)
