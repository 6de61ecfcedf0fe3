"""WebSockets through a reload of code, an upgrade and a stop, in real processes."""

import contextlib

import pytest
from websocket_ends import echo, origins
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

SOURCE = """
import pingora

class Proxy(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer(["ORIGIN"])

    def websocket_message(self, session, ctx, direction, message):
        return None

class Plain(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer(["ORIGIN"])

server = pingora.Server()
server.add_proxy(KIND(), "127.0.0.1:0")
"""


@pytest.fixture
def origin():
    with origins() as start:
        yield start


def code_seen(client):
    with contextlib.suppress(ConnectionClosed):
        client.recv(timeout=10)
    return client.close_code


def says(client, text):
    client.send(text)
    return client.recv(timeout=10) == text


@pytest.mark.parametrize("kind", ["Proxy", "Plain"], ids=["messages", "tunnel"])
@pytest.mark.parametrize("command", ["reload", "upgrade", "stop"])
def test_a_websocket_lives_through_a_drain_and_is_told_1001_at_its_end(proxy, origin, kind, command):
    address, ends = origin(echo)
    source = SOURCE.replace("ORIGIN", address).replace("KIND", kind)
    running = proxy("--workers", "2", "--drain", "0.5", "--grace", "0.5", source=source)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(f"ws://127.0.0.1:{running.port}/")) for _ in range(4)]
        assert all(says(client, "before") for client in clients)
        if command == "reload":
            running.write(source + "\n# changed\n")
        running.ask(command)
        assert [code_seen(client) for client in clients] == [1001] * 4
    assert [ends.wait()[0] for _ in clients] == [1001] * 4
    if command != "stop":
        with connect(f"ws://127.0.0.1:{running.port}/") as client:
            assert says(client, "after")
