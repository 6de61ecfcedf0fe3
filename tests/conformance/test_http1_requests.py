"""Every request of docs/http1.md through a live proxy: whole, byte by byte, and in two writes cut at every offset."""

import contextlib
import re
import socket

import pytest
from conversations import proxy_to
from http1_requests import REQUESTS, Sent
from inside import settle
from strict_origin import StrictOrigin

from pingora import Limits
from pingora.testing import read_all

LIMITS = Limits(head_bytes=500, target_bytes=90, fields=11)
ALL_CUTS = 1000  # bytes up to which a message is cut at every offset
AT_ONCE = 200  # clients
OWN = re.compile(rb"([0-9]{3}) (?:[^\n]* )?([a-z0-9_]+)\n?")
ANSWER = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r]*\r\n((?:[^\r]+\r\n)*)\r\n", re.S)


@pytest.fixture(scope="module")
def origin():
    origin = StrictOrigin(
        lambda number, request: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + b"ok" * (request.method != b"HEAD")
    )
    yield origin
    origin.close()


@pytest.fixture
def proxy(proxy_factory, origin, caplog):
    caplog.set_level("CRITICAL")
    return proxy_factory(proxy_to(origin.address), LIMITS)


def cuts_of(size):
    return range(1, size, 1 if size <= ALL_CUTS else 97)


def as_case_has_it(request, origin):
    """A request that the origin got, as bytes."""
    lines = [request.method + b" " + request.target + b" HTTP/1.1"]
    lines += [b"%s: %s" % field for field in request.fields if not field[0].startswith(b"X-Forwarded-")]
    trailers = b"".join(b"%s: %s\r\n" % field for field in request.trailers)
    return b"\r\n".join([*lines, b"", request.body + trailers]).replace(origin.address.encode(), b"ORIGIN")


def answers_in(data):
    """What the client is told by each answer, and whether the last says that the connection ends."""
    told, head = [], b""
    while data:
        match = ANSWER.match(data)
        assert match is not None, data
        status, head = match[1].decode(), match[2]
        size = int(re.search(rb"(?i)^content-length: ([0-9]+)", head, re.M)[1])
        body, data = data[match.end() :][:size], data[match.end() + size :]
        own = OWN.fullmatch(body)
        told.append(status if own is None else f"{status} {own[2].decode()}")
    return tuple(told), b"Connection: close\r\n" in head


def check(case, origin, before, answers):
    got = [as_case_has_it(request, origin) for request in origin.requests[before:]]
    assert sorted(got) == sorted(case.reaches * len(answers))
    assert origin.faults == []
    for answer in answers:
        assert answers_in(answer) == (case.gets, case.closes)


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.row}-{i}") for i, case in enumerate(REQUESTS)])
def test_a_request_is_read_alike_however_it_is_cut(proxy, origin, case: Sent):
    cuts = [len(case.sent), *cuts_of(len(case.sent))]  # the first is whole
    for at in range(0, len(cuts), AT_ONCE):
        before = len(origin.requests)
        with contextlib.ExitStack() as stack:
            clients = [(stack.enter_context(proxy.connect()), cut) for cut in cuts[at : at + AT_ONCE]]
            for client, cut in clients:
                client.sendall(case.sent[:cut])
            settle(proxy)  # it has read the first part of all
            for client, cut in clients:
                with contextlib.suppress(OSError):  # the first part may have been enough for a refusal
                    client.sendall(case.sent[cut:])
                    client.shutdown(socket.SHUT_WR)
            answers = [read_all(client) for client, _ in clients]
        check(case, origin, before, answers)
    before = len(origin.requests)
    check(case, origin, before, [byte_by_byte(proxy, case.sent)])


def byte_by_byte(proxy, data):
    with proxy.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            for at in range(len(data)):
                client.sendall(data[at : at + 1])
                settle(proxy)
            client.shutdown(socket.SHUT_WR)
        return read_all(client)
