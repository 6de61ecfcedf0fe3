"""Answers of upstreams of HTTP/2 in body filters that raise: the stream is let go while its data is handed on."""

import time

import pytest
from h2_upstream import To, ask
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame


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
