"""Modules and answers that are made here: error pages and what hooks answer."""

import pytest
from conversations import proxy_to

from pingora import HttpModule, ProxyHttp, Response
from pingora.usage import UsageError

CONSTANT = Response(403, {"x-kept": "1"}, "no")
GET = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Stamp(HttpModule):
    def answer_filter(self, session, response, ctx):
        response.headers.add("x-stamp", f"{response.status} {session.request.path} {ctx}")


class Closed(ProxyHttp):
    modules = [Stamp()]

    def new_ctx(self):
        return "ctx"

    def request_filter(self, session, ctx):
        return CONSTANT

    def upstream_peer(self, session, ctx):
        raise AssertionError


def test_the_response_of_a_hook_is_changed_for_this_request_only(proxy_factory):
    proxy = proxy_factory(Closed())
    for path in (b"/a", b"/b"):
        answer = proxy.exchange(GET.replace(b"/a", path))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"\r\nx-stamp: 403 " + path + b" ctx\r\n" in answer
        assert answer.endswith(b"\r\n\r\nno")
    assert "x-stamp" not in CONSTANT.headers


def test_an_error_page_is_changed_and_an_answer_of_the_upstream_is_not(proxy_factory, origin_factory):
    class Open(ProxyHttp):
        modules = [Stamp()]

    gone, there = Open(), Open()
    gone.upstreams = proxy_to("127.0.0.1:1").upstreams
    there.upstreams = proxy_to(origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").address).upstreams
    assert b"\r\nx-stamp: 502 /a None\r\n" in proxy_factory(gone).exchange(GET)
    assert b"x-stamp" not in proxy_factory(there).exchange(GET)


def test_one_that_raises_keeps_no_answer_back(proxy_factory):
    class Broken(HttpModule):
        def answer_filter(self, session, response, ctx):
            response.headers["x-first"] = "1"
            raise ValueError("broken")

    class Both(Closed):
        modules = [Broken(), Stamp()]

    answer = proxy_factory(Both()).exchange(GET)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nx-first: 1\r\n" in answer
    assert b"\r\nx-stamp: 403 /a ctx\r\n" in answer


def test_one_that_would_have_to_be_awaited_is_refused(proxy_factory):
    class Slow(HttpModule):
        async def answer_filter(self, session, response, ctx):
            pass

    class Both(Closed):
        modules = [Slow()]

    with pytest.raises(UsageError, match=r"Slow\.answer_filter is not awaited"):
        proxy_factory(Both())
