"""Answers of upstreams of HTTP/2 in filters that raise while data is handed to them, or await beyond its end."""

import asyncio
import time

import pytest
from h2_upstream import To, ask
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame


class AwaitingHead(To):
    async def response_filter(self, session, response, ctx):
        await asyncio.sleep(0.6)


class AwaitingEnd(To):
    async def response_body_filter(self, session, chunk, end, ctx):
        if end:
            await asyncio.sleep(0.6)
            return chunk + b"end"


@pytest.mark.parametrize(
    ("hooks", "body"), [(AwaitingHead, b""), (AwaitingHead, b"x" * 100), (AwaitingEnd, b"x" * 100)]
)
def test_limits_of_an_upstream_do_not_hold_for_hooks_behind_its_end(proxy_factory, h2_origin, hooks, body):
    origin = h2_origin(lambda request: (200 if body else 204, [], body, []))
    proxy = proxy_factory(hooks(origin.address, read_timeout=0.2, first_byte_timeout=0.2))
    head, _, got = ask(proxy).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200" if body else b"HTTP/1.1 204")
    assert got.count(b"x") == len(body)
    assert (b"end\r\n0\r\n\r\n" in got) == (hooks is AwaitingEnd)


class Raising(To):
    def response_body_filter(self, session, chunk, end, ctx):
        if chunk.startswith(b"b"):
            raise ValueError("boom")

    def suppress_error_log(self, session, error, ctx):
        return True


@pytest.mark.parametrize("fields", [[], [("content-length", "3000")], [("content-length", "300000")]], ids=str)
@pytest.mark.parametrize("pause", [0, 0.05])
def test_a_filter_that_raises_cuts_the_answer_and_nothing_else(proxy_factory, h2_origin, fields, pause):
    def script(peer, number):
        stream = peer.start()
        head = Encoder().encode([(":status", "200"), *fields])
        peer.send(HeadersFrame(stream, data=head, flags=["END_HEADERS"]))
        for byte in b"abc":
            time.sleep(pause)
            peer.send(DataFrame(stream, data=bytes([byte]) * 1000))
        peer.rest()

    proxy = proxy_factory(Raising(h2_origin.raw(script).address, read_timeout=3.0))
    head, _, body = ask(proxy).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"c" not in body
    assert proxy.serving.counters["pingora_requests_active"] == 0
