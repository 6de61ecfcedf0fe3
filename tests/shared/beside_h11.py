"""Compare what a live proxy makes of a client's stream with what h11 makes of it.

A difference has a kind and evidence; tests/differential/differences.toml says of each kind why we differ. What it does
not say is a fault of one of the two.
"""

import random
import re
import socket
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from h11_judge import Request, Verdict, judge
from intermediary import check_added, expected, is_upgrade, received
from streams import pieces
from strict_origin import StrictOrigin

from pingora import LoadBalancer, ProxyHttp
from pingora.testing import RunningProxy

SUFFIX = b"\r\n\r\n"  # ends a head of which one side already knows that it is bad, and the other waits for more
ANSWER = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [^\r\n]*\r\n((?:[!-9;-~]+: [^\r\n]*\r\n)*)\r\n")
OWN = re.compile(rb"([0-9]{3}) (?:[^\n]* )?([a-z0-9_]+)\n")  # an error page of the proxy: status and reason
REASON = re.compile(rb"x-reason: ([a-z0-9_]+)\r\n")
ALLOWED = {400, 405, 413, 414, 417, 421, 431, 501, 505}  # answers of our own that a client's message can deserve


@dataclass
class Outcome:
    """What the proxy did: the requests that reached the origin, its refusal if there is one, and what broke a rule."""

    requests: list[Request]
    refusal: str = ""
    faults: list[str] = field(default_factory=list)


@dataclass
class Difference:
    """`kind` is "refuses" (we do, h11 does not), "accepts", "more" (we read on where h11 closes), "content", or what no
    row may explain: "fewer", "sooner", "beyond" (we read other numbers of requests out of the same bytes).
    """

    kind: str
    ours: str  # our reason, or what is different
    theirs: str  # h11's error
    message: bytes  # the first message on which the two differ; of "more", the one behind which h11 closes


class Pair:
    """A proxy before a strict origin."""

    def __init__(self) -> None:
        self.origin = StrictOrigin()
        proxy = ProxyHttp()
        proxy.upstreams = LoadBalancer([self.origin.address])
        self.proxy = RunningProxy(proxy, reason_header="x-reason")

    def close(self) -> None:
        self.proxy.close()
        self.origin.close()

    def send(self, parts: list[bytes]) -> Outcome:
        """Send one client's stream, end our side, and read all that comes."""
        while True:
            before = len(self.origin.requests)
            try:
                answers = self.talk(parts)
                break
            except OSError:
                # What is sent behind an answer that ends the connection may take the answer back with a reset.
                assert len(parts) > 1
                parts = [b"".join(parts)]
        outcome = Outcome(self.origin.requests[before:])
        outcome.faults += self.origin.faults
        self.origin.faults.clear()
        read_answers(answers, before, outcome)
        return outcome

    def talk(self, parts: list[bytes]) -> bytes:
        answers = b""
        with self.proxy.connect(10) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in parts:
                client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            while more := client.recv(65536):
                answers += more
        return answers


def read_answers(data: bytes, number: int, outcome: Outcome) -> None:
    """Check that each request has its own answer, in order, and nothing else comes but one refusal at the end."""
    for request in outcome.requests:
        match = ANSWER.match(data)
        if match is None or b"X-Number: %d\r\n" % number not in match[2]:
            outcome.faults.append(f"request {number} is not answered by {data[:200]!r}")
            return
        data = data[match.end() :]
        body = b"" if request.method == b"HEAD" else b"request %d" % number
        if not data.startswith(body):
            outcome.faults.append(f"the answer to request {number} has the body {data[:20]!r}")
        data = data[len(body) :]
        number += 1
    if not data:
        return
    match = ANSWER.match(data)
    if match is None or int(match[1]) not in ALLOWED or b"Connection: close\r\n" not in match[2]:
        outcome.faults.append(f"no request is answered by {data[:300]!r}")
        return
    page = data[match.end() :]  # to HEAD none is sent
    reason = REASON.search(match[2])
    own = OWN.fullmatch(page)
    if reason is None or (page and (own is None or own.groups() != (match[1], reason[1]))):
        outcome.faults.append(f"a refusal has the page {page[:300]!r}")
    else:
        outcome.refusal = f"{match[1].decode()} {reason[1].decode()}"


def both(pair: Pair, stream: bytes, parts: list[bytes]) -> tuple[Verdict, Outcome]:
    verdict, outcome = upgraded(judge(stream)), pair.send(parts)
    if verdict.end == "more" and outcome.refusal == "400 client_truncated":
        outcome.refusal = ""  # the stream ends within a body: h11 waits, we tell the client
    return verdict, outcome


def compare(pair: Pair, stream: bytes, parts: list[bytes]) -> Difference | None:
    """Give the first difference. Raises AssertionError for what is wrong whatever h11 thinks."""
    verdict, outcome = both(pair, stream, parts)
    is_refused = verdict.end == "refused"
    if is_refused != bool(outcome.refusal) and len(verdict.requests) == len(outcome.requests):
        # One may have seen enough where the other waits for the end of a line or head: let it come.
        verdict, outcome = both(pair, stream + SUFFIX, [*parts, SUFFIX])
    assert outcome.faults == [], outcome.faults
    return first_difference(stream, verdict, outcome)


def upgraded(verdict: Verdict) -> Verdict:
    """The origin refuses every upgrade: what is sent behind one may be of either protocol, so it is not read."""
    for i, request in enumerate(verdict.requests):
        if is_upgrade(request):
            return Verdict(verdict.requests[: i + 1], verdict.starts[: i + 2], "closed")
    return verdict


def message(stream: bytes, verdict: Verdict, i: int) -> bytes:
    """The bytes of message `i`, as h11 cuts the stream; if it has not come so far, all that is left."""
    start, *rest = verdict.starts[min(i, len(verdict.starts) - 1) :]
    return stream[start : rest[0] if rest else len(stream)]


def first_difference(stream: bytes, verdict: Verdict, outcome: Outcome) -> Difference | None:
    for i, (theirs, ours) in enumerate(zip(verdict.requests, outcome.requests, strict=False)):
        wanted, got = expected(theirs), received(ours)
        if not wanted.values(b"host"):
            got.fields = [one for one in got.fields if one[0] != b"host"]  # HTTP/1.0: the proxy writes one
        problem = check_added(theirs, ours) or (None if got == wanted else f"got {got}, expected {wanted}")
        if problem is not None:
            return Difference("content", problem, verdict.error, message(stream, verdict, i))
    n_theirs, n_ours = len(verdict.requests), len(outcome.requests)
    rest = message(stream, verdict, min(n_theirs, n_ours))
    if n_ours > n_theirs:
        kind = {"refused": "accepts", "closed": "more", "more": "sooner"}.get(verdict.end, "beyond")
    elif n_ours < n_theirs:
        kind = "refuses" if outcome.refusal else "fewer"
    elif bool(outcome.refusal) == (verdict.end == "refused"):
        return None
    elif verdict.end == "closed":
        kind = "more"
    else:
        kind = "refuses" if outcome.refusal else "accepts"
    if kind == "more":
        rest = message(stream, verdict, n_theirs - 1)  # behind which h11 closes
    return Difference(kind, outcome.refusal, verdict.error, rest)


class Explanations:
    """The reasons in differences.toml; `used` are those that explained something."""

    def __init__(self, path: Path) -> None:
        self.rows = tomllib.loads(path.read_text(encoding="utf-8"))["difference"]
        self.used: set[str] = set()

    def explain(self, difference: Difference) -> str | None:
        """Give the name of the reason, None without one."""
        for row in self.rows:
            if (
                row["kind"] == difference.kind
                and re.search(row.get("ours", ""), difference.ours, re.S)
                and re.search(row.get("theirs", ""), difference.theirs)
                and re.search(row["message"].encode("latin-1"), difference.message)
            ):
                self.used.add(row["name"])
                return row["name"]
        return None


def smallest(stream: bytes, is_bad: Callable[[bytes], object]) -> bytes:
    """Leave out of a stream what can be left out while it stays bad."""
    size = len(stream) // 2
    while size:
        at = 0
        while at < len(stream):
            shorter = stream[:at] + stream[at + size :]
            if is_bad(shorter):
                stream = shorter
            else:
                at += size
        size //= 2
    return stream


def check(pair: Pair, explanations: Explanations, stream: bytes, rng: random.Random | None = None) -> str | None:
    """Compare and explain: None, or what is not explained."""
    parts = pieces(rng, stream) if rng else [stream]
    try:
        difference = compare(pair, stream, parts)
    except AssertionError as fault:
        return str(fault)
    if difference is None or explanations.explain(difference):
        return None
    return f"{difference.kind}: ours {difference.ours!r}, h11 {difference.theirs!r}, from {difference.message[:600]!r}"
