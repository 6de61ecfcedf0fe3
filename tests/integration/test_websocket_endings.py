"""How the proxy ends a WebSocket: at a time limit, at the end of a drain, in order on both sides."""

import asyncio
import contextlib
import threading
import time

import pytest
from conversations import more_of, wait_until
from inside import settle
from websocket_ends import client_of, echo, origins, proxy_before
from websockets.asyncio.client import connect as connect_async
from websockets.asyncio.server import serve as serve_async
from websockets.exceptions import ConnectionClosed

from pingora import Limits, LoadBalancer, ProxyHttp
from pingora_c.ws.frame import encode

TUNNEL_TIMEOUT = 'pingora_failures_total{reason="tunnel_timeout"}'


class Reading(ProxyHttp):
    def websocket_message(self, session, ctx, direction, message):
        pass


class Logging(ProxyHttp):
    errors = []

    def logging(self, session, error, ctx):
        self.errors.append(error)


KINDS = pytest.mark.parametrize("kind", [ProxyHttp, Reading], ids=["tunnel", "messages"])


@pytest.fixture
def origin():
    with origins() as start:
        yield start


@pytest.fixture
def proxy_to(proxy_factory):
    def start(address, kind=ProxyHttp, limits=None):
        return proxy_before(proxy_factory, address, kind, limits)

    return start


def drain(proxy):
    """Let a proxy stop as a server does whose grace is over."""
    proxy.call(proxy.serving.drain(0), timeout=10)


def code_seen(client):
    with contextlib.suppress(ConnectionClosed):
        while True:
            client.recv(timeout=10)
    return client.close_code, client.close_reason


@KINDS
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_at_the_end_of_a_drain_both_sides_are_told_1001(origin, proxy_to, kind, compression):
    address, ends = origin(echo, compression=compression)
    proxy = proxy_to(address, kind)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client_of(proxy, compression=compression)) for _ in range(5)]
        for client in clients:
            client.send("hello")
            assert client.recv(timeout=10) == "hello"
        drain(proxy)
        assert [code_seen(client) for client in clients] == [(1001, "")] * 5
    assert [ends.wait() for _ in range(5)] == [(1001, "")] * 5


@KINDS
def test_an_end_in_order_is_no_failure(origin, proxy_to, kind):
    address, ends = origin(echo)

    class Logs(Logging, kind):
        errors = []

    proxy = proxy_to(address, Logs)
    with client_of(proxy) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
        drain(proxy)
        assert code_seen(client) == (1001, "")
    assert ends.wait() == (1001, "")
    assert Logs.errors == [None]


@KINDS
def test_a_drain_does_not_wait_for_a_side_that_does_not_answer(origin, proxy_factory, origin_factory, kind):
    seen = []

    def script(connection, data):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(65536):
                seen.append(data)
        seen.append("end")

    proxy = proxy_before(proxy_factory, origin_factory(script).address, kind)
    with proxy.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert b"101" in client.recv(65536)
        drain(proxy)
        assert client.recv(65536) == b"\x88\x02\x03\xe9"
        assert client.recv(65536) == b""
    wait_until(lambda: "end" in seen)
    frame = seen[0]
    assert (frame[:2], bytes(octet ^ key for octet, key in zip(frame[6:], frame[2:4], strict=True))) == (
        b"\x88\x82",
        b"\x03\xe9",
    )


def test_a_frame_that_is_on_its_way_is_ended_before_the_close(proxy_factory, origin_factory):
    half_sent, go_on = threading.Event(), threading.Event()
    message = bytes(range(256)) * 1000

    def script(connection, data):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        frame = encode(0x82, message)
        connection.sendall(frame[:100_000])
        half_sent.set()
        go_on.wait(10)
        connection.sendall(frame[100_000:] + encode(0x82, b"not any more"))
        connection.recv(65536)

    proxy = proxy_before(proxy_factory, origin_factory(script).address)
    (service,) = proxy.serving.services
    with proxy.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        got = b""
        while not got.partition(b"\r\n\r\n")[2]:
            got += more_of(client)
        assert half_sent.wait(10)

        async def leave():
            return service.leave_websockets()

        assert proxy.call(leave()) == 1
        go_on.set()
        with contextlib.suppress(ConnectionResetError):
            while more := client.recv(65536):
                got += more
    assert got.partition(b"\r\n\r\n")[2] == encode(0x82, message) + b"\x88\x02\x03\xe9"


def test_what_is_no_websocket_is_cut_at_the_end_of_a_drain(proxy_factory, origin_factory):
    def script(connection, data):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        connection.sendall(b"\xff\xff\xff")
        connection.recv(65536)

    proxy = proxy_before(proxy_factory, origin_factory(script).address)
    with proxy.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        got = b""
        while not got.endswith(b"\xff\xff\xff"):
            got += more_of(client)
        drain(proxy)
        with pytest.raises(ConnectionResetError):
            client.recv(65536)


@KINDS
@pytest.mark.parametrize("limits", [Limits(tunnel_timeout=0.4), Limits(message_timeout=0.4)], ids=["bytes", "messages"])
def test_a_quiet_websocket_is_closed_in_order(origin, proxy_to, caplog, kind, limits):
    address, ends = origin(echo, ping_interval=None)
    proxy = proxy_to(address, kind, limits)
    with client_of(proxy, ping_interval=None) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
        assert code_seen(client) == (1001, "idle")
    assert ends.wait() == (1001, "idle")
    wait_until(lambda: proxy.serving.counters[TUNNEL_TIMEOUT] == 1)
    wait_until(lambda: "tunnel_timeout" in caplog.text)


@KINDS
def test_pings_alone_do_not_keep_a_websocket_from_the_limit_of_messages(origin, proxy_to, kind):
    address, _ends = origin(echo, ping_interval=None)
    with client_of(proxy_to(address, kind, Limits(message_timeout=0.5)), ping_interval=0.05) as client:
        assert code_seen(client) == (1001, "idle")


@KINDS
def test_messages_keep_a_websocket_from_their_limit(origin, proxy_to, kind):
    address, _ends = origin(echo, ping_interval=None)
    limits = Limits(message_timeout=1.0, tunnel_timeout=1.0)
    with client_of(proxy_to(address, kind, limits), ping_interval=None) as client:
        for i in range(15):
            time.sleep(0.1)  # in all longer than the limit, which nothing in between comes near
            client.send(str(i))
            assert client.recv(timeout=10) == str(i)


@KINDS
def test_a_client_that_closes_while_the_proxy_does_ends_once(origin, proxy_to, kind):
    address, ends = origin(echo)
    proxy = proxy_to(address, kind)
    (service,) = proxy.serving.services
    for _ in range(20):
        with client_of(proxy) as client:

            async def leave():
                return service.leave_websockets()

            asked = threading.Thread(target=client.close)
            asked.start()
            proxy.call(leave())
            asked.join()
        code, _reason = ends.wait()
        assert code in (1000, 1001)
    wait_until(lambda: (service.n_active, service.n_websockets, service.n_connections) == (0, 0, 0))


def test_a_hook_that_awaits_at_the_end_of_a_drain_is_cancelled(origin, proxy_to):
    entered = threading.Event()
    ended = []

    class Slow(ProxyHttp):
        async def websocket_message(self, session, ctx, direction, message):
            entered.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append(message)
                raise

    address, ends = origin(echo)
    proxy = proxy_to(address, Slow)
    with client_of(proxy) as client:
        client.send("hello")
        assert entered.wait(10)
        drain(proxy)
        assert code_seen(client) == (1001, "")
    assert ends.wait()[0] == 1001
    assert ended == ["hello"]


def test_a_thousand_websockets_are_closed_in_order_at_once(proxy_factory):
    async def scenario(proxy_address, run):
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for _ in range(20):
                clients += await asyncio.gather(
                    *(
                        stack.enter_async_context(connect_async(f"ws://{proxy_address}/", compression=None))
                        for _ in range(50)
                    )
                )
            for i, client in enumerate(clients):
                await client.send(str(i))
            assert [await client.recv() for client in clients] == [str(i) for i in range(1000)]
            await run()
            for client in clients:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
            return {client.close_code for client in clients}

    async def echo_async(connection):
        async for message in connection:
            await connection.send(message)

    async def main():
        async with serve_async(echo_async, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            proxy = proxy_before(proxy_factory, f"127.0.0.1:{server.sockets[0].getsockname()[1]}", Reading)
            future = asyncio.run_coroutine_threadsafe

            async def run():
                await asyncio.wrap_future(future(proxy.serving.drain(0), proxy.serving.loop))

            return await scenario(proxy.address, run)

    assert asyncio.run(main()) == {1001}


def test_a_client_on_a_unix_socket_that_closes_and_goes_is_heard_to_the_end(proxy_factory, origin_factory, tmp_path):
    entered, go_on = threading.Event(), threading.Event()
    got = []

    class Slow(ProxyHttp):
        async def websocket_message(self, session, ctx, direction, message):
            entered.set()
            await asyncio.to_thread(go_on.wait, 10)

    def script(connection, data):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        while data := connection.recv(65536):
            got.append(data)
        got.append("end")

    proxy = Slow()
    proxy.upstreams = LoadBalancer([origin_factory(script).address])
    running = proxy_factory(proxy, listen=f"unix:{tmp_path}/front")
    with running.connect(10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert b"101" in client.recv(65536)
        client.sendall(encode(0x81, b"one", bytes(4)))
        assert entered.wait(10)
        client.sendall(encode(0x81, b"two" * 10_000, bytes(4)) + encode(0x88, b"\x03\xe8", bytes(4)))
    time.sleep(0.1)  # its end is seen while the hook is at work
    go_on.set()
    wait_until(lambda: "end" in got)
    # two messages and the Close frame, whatever their keys are
    assert sum(map(len, got[:-1])) == 6 + 3 + 8 + 30_000 + 6 + 2


def test_an_origin_that_closes_and_goes_at_once_is_no_failure(proxy_factory, origin_factory):
    """What the client answers then is a reset from the origin's kernel."""
    hooks = Logging()
    hooks.errors = []
    gone = threading.Event()

    def script(connection, data):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        connection.sendall(encode(0x88, b"\x03\xe8"))
        connection.close()
        gone.set()

    hooks.upstreams = LoadBalancer([origin_factory(script).address])
    proxy = proxy_factory(hooks)
    with proxy.connect(10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert gone.wait(10)
        got = b""
        while not got.endswith(encode(0x88, b"\x03\xe8")):
            got += more_of(client)
        client.sendall(encode(0x88, b"\x03\xe8", bytes(4)))
        assert client.recv(65536) == b""
        settle(proxy)  # the reset has come
    wait_until(lambda: hooks.errors)
    assert hooks.errors == [None]
    assert hooks.upstreams.endpoints[0].failures_in_row == 0
