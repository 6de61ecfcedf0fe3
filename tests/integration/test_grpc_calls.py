"""Calls of gRPC in single frames: clients that say little, deadlines beside hooks, and refusals as outcomes."""

import asyncio
import contextlib

import pytest
from h2_origin import RawOrigin
from hpack import Encoder
from http2_frames import POST, FrameClient, replaced
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from pingora import HttpPeer, Limits, ProxyHttp, Response, UpstreamTls

CALL = [*POST, ("content-type", "application/grpc"), ("te", "trailers")]
MESSAGE = b"\0\0\0\0\0"
N_PARTS = 12


class To(ProxyHttp):
    def __init__(self, address="127.0.0.1:1"):
        self.peer = HttpPeer(address, protocol="h2")

    def upstream_peer(self, session, ctx):
        return self.peer


def echo(peer, number):
    """Send each part of the request back."""
    encoder = Encoder()
    peer.preface()
    peer.send(SettingsFrame())
    while True:
        frame = peer.frame()
        if isinstance(frame, HeadersFrame):
            head = encoder.encode([(":status", "200"), ("content-type", "application/grpc")])
            peer.send(HeadersFrame(frame.stream_id, data=head, flags=["END_HEADERS"]))
        elif isinstance(frame, DataFrame):
            peer.send(DataFrame(frame.stream_id, data=frame.data, flags=frame.flags))


@pytest.mark.parametrize("pause", [0.1, 0.6])
def test_a_client_that_says_little_is_not_too_slow(proxy_factory, pause):
    proxy = proxy_factory(To(RawOrigin(echo).address), Limits(body_timeout=0.2, body_rate=1000))
    with FrameClient(proxy) as client:
        client.send(client.head(CALL, end=False))
        for _ in range(N_PARTS if pause < 0.2 else 2):
            client.send(DataFrame(1, data=MESSAGE))
            assert client.until(lambda frame: isinstance(frame, DataFrame)).data == MESSAGE
            proxy.call(asyncio.sleep(pause))
        client.send(DataFrame(1, data=b"", flags=["END_STREAM"]))
        assert client.until(lambda frame: "END_STREAM" in frame.flags) is not None


def test_a_call_in_which_nothing_moves_ends(proxy_factory):
    proxy = proxy_factory(To(RawOrigin(echo).address), Limits(tunnel_timeout=0.3))
    with FrameClient(proxy) as client:
        client.send(client.head(CALL, end=False), DataFrame(1, data=MESSAGE))
        trailers = client.answer()["trailers"]
    assert (trailers["grpc-status"], trailers["grpc-message"]) == ("1", "client_timeout")
    assert proxy.serving.counters['pingora_failures_total{reason="client_timeout"}'] == 1


@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_only_an_upstream_of_http2_makes_it_a_call(proxy_factory, origin_factory, protocol):
    """Whatever the client says it is: a body for HTTP/1 is held to body_timeout."""
    address = RawOrigin(echo).address if protocol == "h2" else origin_factory(lambda *_: None).address

    class Proxy(To):
        def __init__(self):
            self.peer = HttpPeer(address, protocol=protocol)

    proxy = proxy_factory(Proxy(), Limits(body_timeout=0.2))
    with FrameClient(proxy) as client:
        client.send(client.head(CALL, end=False), DataFrame(1, data=MESSAGE))
        proxy.call(asyncio.sleep(0.8))
        counted = 'pingora_failures_total{reason="client_timeout"}'
        assert proxy.serving.counters[counted] == (1 if protocol == "h1" else 0)


class SlowHook(To):
    async def request_filter(self, session, ctx):
        await asyncio.sleep(30)


class SlowPeer(To):
    async def upstream_peer(self, session, ctx):
        await asyncio.sleep(30)


@pytest.mark.parametrize("proxy_class", [SlowHook, SlowPeer])
def test_a_deadline_holds_while_hooks_run(proxy_factory, proxy_class):
    proxy = proxy_factory(proxy_class())
    with FrameClient(proxy) as client:
        client.request([*CALL, ("grpc-timeout", "200m")], body=MESSAGE)
        fields = client.answer()["fields"]
    assert (fields["grpc-status"], fields["grpc-message"]) == ("4", "call_timeout")


def test_a_deadline_ends_what_a_hook_streams(proxy_factory):
    async def parts():
        yield MESSAGE
        await asyncio.sleep(30)

    class Streaming(To):
        def request_filter(self, session, ctx):
            return Response(200, {"content-type": "application/grpc"}, parts())

    proxy = proxy_factory(Streaming())
    with FrameClient(proxy) as client:
        client.request([*CALL, ("grpc-timeout", "200m")], body=MESSAGE)
        answer = client.answer()
    assert answer["body"] == MESSAGE
    assert (answer["trailers"]["grpc-status"], answer["trailers"]["grpc-message"]) == ("4", "call_timeout")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (replaced(CALL, method="TRACE"), "12"),
        (replaced(CALL, scheme="https"), "2"),
        ([*CALL, ("x", "y" * 2000)], "8"),
    ],
)
def test_a_refusal_is_an_outcome(proxy_factory, fields, status):
    proxy = proxy_factory(To(), Limits(head_bytes=1024))
    with FrameClient(proxy) as client:
        client.request(fields, body=MESSAGE)
        answer = client.answer()
    assert (answer["status"], answer["fields"].get("grpc-status"), answer["body"]) == (200, status, b"")


def test_a_refusal_that_a_hook_streams_is_an_outcome(proxy_factory):
    async def parts():
        yield b"a long story"

    class Refusing(To):
        def request_filter(self, session, ctx):
            return Response(503, None, parts())

    with FrameClient(proxy_factory(Refusing())) as client:
        client.request(CALL, body=MESSAGE)
        answer = client.answer()
    assert (answer["status"], answer["fields"].get("grpc-status"), answer["body"]) == (200, "14", b"")


@pytest.mark.parametrize("most", [1, 16])
def test_a_deadline_that_passes_during_the_connect_is_not_tried_again(proxy_factory, most):
    """The upstream takes connections and says nothing, TLS neither."""

    class Noting(To):
        def __init__(self, address):
            self.peer = HttpPeer(
                address, protocol="h2", tls=UpstreamTls(verify=False), connect_timeout=20, max_h2_connections=most
            )
            self.failed = []

        def fail_to_connect(self, session, peer, error, ctx):
            self.failed.append((error.reason, error.retry))

    with contextlib.closing(RawOrigin(lambda peer, number: peer.read(1 << 20))) as origin:
        hooks = Noting(origin.address)
        proxy = proxy_factory(hooks)
        with FrameClient(proxy) as client:
            client.request([*CALL, ("grpc-timeout", "200m")], body=MESSAGE)
            assert client.answer()["fields"]["grpc-status"] == "4"
        assert hooks.failed == [("call_timeout", False)]
        assert proxy.serving.counters["pingora_upstream_h2_connections_total"] == 1
