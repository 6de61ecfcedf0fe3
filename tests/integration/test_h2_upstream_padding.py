"""Upstreams of HTTP/2 that pad DATA: padding takes room in windows, too (RFC 9113 §6.1), and is given back."""

import pytest
from h2_upstream import To, ask
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, WindowUpdateFrame


@pytest.mark.parametrize("padding", [0, 10, 255])
@pytest.mark.parametrize("size", [3000, 60_000, 100_000, 1_000_000])
@pytest.mark.parametrize("has_length", [True, False])
def test_a_padded_answer_arrives_whole(proxy_factory, h2_origin, size, padding, has_length):
    fields = [(b"content-length", b"%d" % size)] * has_length
    origin = h2_origin(lambda request: (200, fields, b"x" * size, []), padding=padding)
    proxy = proxy_factory(To(origin.address, read_timeout=3.0))
    for _ in range(2):  # the second one begins with a window for such an answer
        head, _, body = ask(proxy).partition(b"\r\n\r\n")
        assert body.count(b"x") == size
        assert has_length == (b"\r\nContent-Length: " in head)


def test_frames_of_padding_alone_are_given_back(proxy_factory, h2_origin):
    """Of a window of 65,536 bytes they leave too little for the rest of a body that would have had room."""

    def script(peer, number):
        stream = peer.start()
        head = Encoder().encode([(":status", "200"), ("content-length", "65000")])
        peer.send(HeadersFrame(stream, data=head, flags=["END_HEADERS"]))
        peer.send(*(DataFrame(stream, data=b"x" * 16000) for _ in range(4)))
        peer.send(*(DataFrame(stream, pad_length=255, flags=["PADDED"]) for _ in range(5)))
        while peer.next(WindowUpdateFrame).stream_id != stream:
            pass
        peer.send(DataFrame(stream, data=b"x" * 1000, flags=["END_STREAM"]))
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address, read_timeout=3.0))
    assert ask(proxy).endswith(b"\r\n\r\n" + b"x" * 65000)
