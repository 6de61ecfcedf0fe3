"""Trailers that do not go on: those that Connection names, and those that tell who the client is."""

import pytest
from conversations import dechunk, echo, proxy_to

CHUNKED = b"Connection: close, x-hop\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n%s\r\n"
DROPPED = [
    (b"X-Hop: 1\r\n", b""),
    (b"X-Hop: 1\r\nX-Sum: 2\r\nx-hOP: 3\r\n", b"X-Sum: 2"),
    (b"X_Forwarded_For: 6.6.6.6\r\n", b""),
    (b"X-Forwarded-Prefix: /6\r\nX-Sum: 2\r\nX_Real-IP: 6.6.6.6\r\n", b"X-Sum: 2"),
]
rows = pytest.mark.parametrize(("sent", "left"), DROPPED)


@rows
def test_a_trailer_of_a_request_is_dropped(proxy_factory, origin_factory, sent, left):
    proxy = proxy_factory(proxy_to(origin_factory(echo).address))
    answer = proxy.exchange(b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED % sent)
    assert b"X-Trailers: %s\r\n" % left in answer
    assert answer.endswith(b"\r\n\r\nhi")


@rows
def test_a_trailer_of_an_answer_is_dropped(proxy_factory, origin_factory, sent, left):
    origin = origin_factory(b"HTTP/1.1 200 OK\r\n" + CHUNKED % sent)
    answer = proxy_factory(proxy_to(origin.address)).exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert dechunk(answer) == (b"hi", left + b"\r\n" * (2 if left else 1))
