"""The form of a request target, over real sockets: what is refused, and whose authority counts."""

import pytest
from conversations import proxy_to

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("sent", "start"),
    [
        (b"GET http://b:81/c?d HTTP/1.1\r\nHost: a", b"GET /c?d HTTP/1.1"),
        (b"GET http://b:81 HTTP/1.1\r\nHost: a", b"GET / HTTP/1.1"),
        (b"OPTIONS http://b:81 HTTP/1.1\r\nHost: a", b"OPTIONS * HTTP/1.1"),
        (b"GET http://b:81/ HTTP/1.0", b"GET / HTTP/1.1"),
    ],
)
def test_authority_of_an_absolute_target_replaces_host(proxy_factory, origin_factory, sent, start):
    origin = origin_factory(HELLO)
    got = proxy_factory(proxy_to(origin.address)).exchange(sent + b"\r\n\r\n")
    lines = origin.heads[0].split(b"\r\n")
    assert got.endswith(b"\r\n\r\nhello")
    assert lines[0] == start
    assert [line for line in lines if line.lower().startswith(b"host:")] == [b"Host: b:81"]
    assert b"X-Forwarded-Host: b:81" in lines


@pytest.mark.parametrize("target", [b"a", b"*", b"a:80", b"ftp://a/", b"http:///b", b"http://u@a/"])
def test_target_in_no_form_of_its_method_is_answered_with_400(proxy_factory, origin_factory, target):
    origin = origin_factory(HELLO)
    got = proxy_factory(proxy_to(origin.address)).exchange(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 400 ")
    assert origin.heads == []


@pytest.mark.parametrize("method", [b"CONNECT a:1", b"TRACE /"])
def test_a_method_that_is_not_forwarded_is_answered_with_those_that_are(proxy_factory, method):
    got = proxy_factory(proxy_to("127.0.0.1:1")).exchange(method + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" in got
