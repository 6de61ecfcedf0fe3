"""Every answer of docs/http1.md through a live proxy: whole, byte by byte, and in two writes cut at every offset."""

import contextlib
import re
import socket

import pytest
from conversations import proxy_to
from http1_answers import ANSWERS, HEAD, Answered
from inside import settle

from pingora.testing import read_all

AT_ONCE = 100  # exchanges


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=AT_ONCE) as listener:
        listener.settimeout(10)
        yield listener


@pytest.fixture
def proxy(proxy_factory, listener, caplog):
    caplog.set_level("CRITICAL")
    return proxy_factory(proxy_to(f"127.0.0.1:{listener.getsockname()[1]}"))


class Exchange:
    """One request on its way, with the origin's end of it."""

    def __init__(self, proxy, listener, case, stack):
        self.case = case
        self.client = stack.enter_context(proxy.connect())
        self.client.sendall(case.asked)
        self.origin = stack.enter_context(listener.accept()[0])
        self.origin.settimeout(10)
        self.origin.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += self.origin.recv(65536)

    def answer(self, part):
        with contextlib.suppress(OSError):  # what came before may have been enough to close
            self.origin.sendall(part)

    def end(self):
        """Return what the client got."""
        with contextlib.suppress(OSError):
            if self.case.ends or not self.case.sent:
                self.origin.shutdown(socket.SHUT_WR)
        answer = read_all(self.client)
        self.client.close()
        return answer

    def is_kept(self):
        """Whether the proxy keeps the connection to the origin."""
        if not self.case.is_kept:
            return bool(self.origin.recv(1))  # it closes, or this is too late
        self.origin.setblocking(False)
        try:
            return bool(self.origin.recv(1))
        except BlockingIOError:
            return True


def dechunk(data):
    """Decode as far as it goes: the payload, the trailers, and whether the end came."""
    payload = b""
    while line := re.match(rb"([0-9a-f]+)\r\n", data):
        size, data = int(line[1], 16), data[line.end() :]
        if size == 0:
            trailers, _, rest = (b"\r\n" + data).rpartition(b"\r\n\r\n")
            assert rest == b""
            return payload + (trailers[2:] + b"\r\n" if trailers else b""), True
        payload, data = payload + data[:size], data[size + 2 :]
    return payload, False


def as_case_has_it(data, asked):
    """What a client got, in the form of Answered.gets, and whether it can see that the end is missing."""
    interim = b""
    while match := re.match(rb"HTTP/1\.1 1(?!01)[0-9]{2} .*?\r\n\r\n", data, re.S):
        interim, data = interim + match[0], data[match.end() :]
    head, end, body = data.partition(b"\r\n\r\n")
    head = re.sub(rb"\r\n(Date: [^\r]*|Connection: close)(?=\r|$)", b"", head)
    is_cut = not end
    length = re.search(rb"\r\nContent-Length: ([0-9]+)", head)
    if head.startswith(b"HTTP/1.1 502 "):
        told = b"502 " + body.split()[-1]
        return (interim + told if interim else told.decode()), False
    if b"\r\nTransfer-Encoding: chunked" in head:
        body, is_whole = dechunk(body)
        is_cut = not is_whole
    elif length and asked != HEAD and b"HTTP/1.1 304" not in head:
        is_cut = len(body) < int(length[1])
    return interim + head + end + body, is_cut


def converse(proxy, listener, case, cuts, feed):
    with contextlib.ExitStack() as stack:
        exchanges = [(Exchange(proxy, listener, case, stack), cut) for cut in cuts]
        feed(exchanges)
        for exchange, cut in exchanges:
            assert as_case_has_it(exchange.end(), case.asked) == (case.gets, case.is_cut), cut
        settle(proxy)
        assert {exchange.is_kept() for exchange, _ in exchanges} == {case.is_kept}
    settle(proxy)  # it knows that the connections have ended


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.row}-{i}") for i, case in enumerate(ANSWERS)])
def test_an_answer_is_read_alike_however_it_is_cut(proxy, listener, case: Answered):
    def in_two(exchanges):
        for exchange, cut in exchanges:
            exchange.answer(case.sent[:cut])
        settle(proxy)  # it has read the first part of all
        for exchange, cut in exchanges:
            exchange.answer(case.sent[cut:])

    def byte_by_byte(exchanges):
        ((exchange, _),) = exchanges
        for at in range(len(case.sent)):
            exchange.answer(case.sent[at : at + 1])
            settle(proxy)

    cuts = [len(case.sent), *range(1, len(case.sent))]  # the first is whole
    for at in range(0, len(cuts), AT_ONCE):
        converse(proxy, listener, case, cuts[at : at + AT_ONCE], in_two)
    converse(proxy, listener, case, [0], byte_by_byte)
