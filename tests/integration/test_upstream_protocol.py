"""What was spoken to the upstream: hooks and the JSON access log know."""

import asyncio
import json

import pytest
from conversations import GET, wait_until
from http2_frames import FrameClient
from tcp_peers import echo

from pingora import ForwardProxy, HttpPeer, ProxyHttp, Server
from pingora.serving import Serving
from pingora.testing import read_all
from pingora_c.log.writer import LogWriter

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Noting(ProxyHttp):
    def __init__(self, address, **options):
        self.peer = HttpPeer(address, **options)
        self.seen = []

    def upstream_peer(self, session, ctx):
        self.seen.append(session.upstream_protocol)
        return self.peer

    def logging(self, session, error, ctx):
        self.seen.append(session.upstream_protocol)


@pytest.mark.parametrize("spoken", ["h1", "h2"])
@pytest.mark.parametrize("client", ["h1", "h2"])
def test_a_hook_sees_it_once_there_is_a_connection(proxy_factory, origin_factory, h2_origin, client, spoken):
    origin = origin_factory(OK) if spoken == "h1" else h2_origin()
    hooks = Noting(origin.address, protocol=spoken)
    proxy = proxy_factory(hooks)
    if client == "h1":
        assert proxy.exchange(GET).startswith(b"HTTP/1.1 200 ")
    else:
        with FrameClient(proxy) as frames:
            frames.request()
            assert frames.answer()["status"] == 200
    wait_until(lambda: len(hooks.seen) == 2)
    assert hooks.seen == [None, spoken]


def test_without_an_upstream_it_is_none(proxy_factory):
    hooks = Noting("127.0.0.1:1")
    assert proxy_factory(hooks).exchange(GET).startswith(b"HTTP/1.1 502 ")
    wait_until(lambda: hooks.seen and hooks.seen[-1] is None and len(hooks.seen) > 1)
    assert set(hooks.seen) == {None}


def test_a_tunnel_speaks_nothing(proxy_factory, peer_factory):
    class Tunnels(ForwardProxy):
        seen = ()

        def logging(self, session, error, ctx):
            self.seen = [session.response.status, session.upstream_protocol]

    origin = peer_factory(echo)
    hooks = Tunnels([origin.address])
    with proxy_factory(hooks).connect(10) as client:
        client.sendall(b"CONNECT %b HTTP/1.1\r\nHost: a\r\n\r\n" % origin.address.encode())
        client.shutdown(1)
        assert read_all(client).startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: hooks.seen)
    assert hooks.seen == [200, None]


def test_the_access_log_has_it_beside_what_the_client_spoke(origin_factory, h2_origin, tmp_path):
    path = tmp_path / "access.log"
    peers = [(origin_factory(OK).address, "h1"), (h2_origin().address, "h2"), ("127.0.0.1:1", "h1")]

    async def main():
        with path.open("wb") as file:
            writer = LogWriter(file.fileno())
            for address, protocol in peers:
                server = Server(access_log="json")
                server.add_proxy(Noting(address, protocol=protocol), "127.0.0.1:0")
                server.bind()
                serving = Serving(server, asyncio.get_running_loop(), writer)
                await serving.start()
                serving.accept()
                host, _, port = serving.address.rpartition(":")
                reader, client = await asyncio.open_connection(host, int(port))
                client.write(GET)
                await reader.read()
                client.close()
                await serving.drain(1.0)
            writer.close()

    asyncio.run(main())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["protocol"], line["upstream_protocol"], line["status"]) for line in lines] == [
        ("HTTP/1.1", "h1", 200),
        ("HTTP/1.1", "h2", 200),
        ("HTTP/1.1", None, 502),
    ]
