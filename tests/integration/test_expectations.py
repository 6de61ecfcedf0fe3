"""Clients that send their body only when they were told 100 Continue, by the origin or by the proxy."""

import time

import pytest
from conversations import Forwarding, echo

from pingora import Limits
from pingora.testing import read_all

POST = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class RemovesFirst(Forwarding):
    def request_filter(self, session, ctx):
        del session.request.headers["expect"]


class RemovesLast(Forwarding):
    def upstream_request_filter(self, session, request, ctx):
        del request.headers["expect"]


@pytest.mark.parametrize("kind", [RemovesFirst, RemovesLast])
def test_the_proxy_says_it_where_a_hook_keeps_the_expectation_from_the_origin(proxy_factory, origin_factory, kind):
    origin = origin_factory(echo)
    with proxy_factory(kind(origin.address), Limits(body_timeout=5)).connect(20) as client:
        client.sendall(POST)
        assert client.recv(len(CONTINUE)) == CONTINUE
        client.sendall(b"hello")
        assert read_all(client).endswith(b"\r\n\r\nhello")
    assert b"expect" not in origin.heads[0].lower()


def test_a_client_is_not_blamed_while_it_waits_for_an_origin_to_say_it(proxy_factory, origin_factory):
    def think_first(connection, data):
        time.sleep(2)  # longer than the body may take
        connection.sendall(CONTINUE)
        echo(connection, data)

    with proxy_factory(Forwarding(origin_factory(think_first).address), Limits(body_timeout=1)).connect(20) as client:
        client.sendall(POST)
        assert client.recv(len(CONTINUE)) == CONTINUE
        client.sendall(b"hello")
        assert read_all(client).endswith(b"\r\n\r\nhello")
