"""What hooks say themselves in a WebSocket, with the `websockets` library as client and as origin."""

import asyncio

import pytest
from conversations import wait_until
from websocket_ends import client_of, echo, origins, proxy_before
from websockets.exceptions import ConnectionClosedError

from pingora import DROP, Limits, ProxyHttp, SessionEnded, WebSocketClose

MIB = 1024 * 1024


@pytest.fixture
def origin():
    with origins() as start:
        yield start


@pytest.fixture
def proxy_to(proxy_factory):
    def start(address, kind, limits=None):
        return proxy_before(proxy_factory, address, kind, limits)

    return start


class Talking(ProxyHttp):
    """Answers by itself, and says more than it was told."""

    def __init__(self):
        self.sockets = []

    async def websocket_message(self, session, ctx, direction, message):
        self.sockets.append(session.websocket)
        if direction == "downstream":
            return None
        if message == "ping":
            await session.websocket.send("downstream", "pong")
            return DROP
        if message == "flood":
            for _ in range(64):
                await session.websocket.send("downstream", bytes(MIB))
            return DROP
        if message == "bye":
            session.websocket.close(4000, "bye")
            return "never"
        await session.websocket.send("upstream", "before")
        await session.websocket.send("upstream", b"binary " * 100)
        return None


def test_a_hook_may_send_messages_of_its_own_both_ways(origin, proxy_to):
    address, ends = origin(echo)
    proxy = proxy_to(address, Talking)
    with client_of(proxy) as client:
        client.send("ping")
        assert client.recv(timeout=10) == "pong"
        client.send("hello")
        assert [client.recv(timeout=10) for _ in range(3)] == ["before", b"binary " * 100, "hello"]
        client.send("bye")
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=10)
        assert (client.close_code, client.close_reason) == (4000, "bye")
    assert ends.wait() == (4000, "bye")
    (service,) = proxy.serving.services
    wait_until(lambda: service.n_active == 0)
    websocket = service.plan.proxy.sockets[-1]
    assert websocket.is_closed
    with pytest.raises(SessionEnded):
        websocket.send("upstream", "too late")
    websocket.close()


def test_sending_waits_for_a_receiver_that_is_slow(origin, proxy_to):
    address, _ends = origin(echo)
    proxy = proxy_to(address, Talking)
    with client_of(proxy, max_queue=1) as client:
        client.send("flood")
        for _ in range(64):
            assert client.recv(timeout=10) == bytes(MIB)


@pytest.mark.parametrize(
    ("direction", "message", "error"),
    [("sideways", "a", ValueError), ("upstream", 7, TypeError), ("upstream", "\udc00", UnicodeEncodeError)],
)
def test_what_can_not_be_sent_is_refused_where_it_is_given(origin, proxy_to, direction, message, error):
    raised = []

    class Wrong(ProxyHttp):
        def websocket_message(self, session, ctx, way, text):
            try:
                session.websocket.send(direction, message)
            except Exception as problem:
                raised.append(type(problem))

    address, _ends = origin(echo)
    with client_of(proxy_to(address, Wrong)) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
    assert raised[0] is error


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (999, ""), (5000, ""), (1000, "a" * 124), (70000, "")])
def test_a_close_that_may_not_be_sent_is_refused(code, reason):
    with pytest.raises(ValueError, match=r"(code|reason): expected"):
        WebSocketClose(code, reason)


def test_without_the_hook_there_is_no_websocket_to_speak_to(origin, proxy_to):
    found = []

    class Logs(ProxyHttp):
        def response_filter(self, session, response, ctx):
            found.append(session.websocket)

        def logging(self, session, error, ctx):
            found.append(session.websocket)

    address, _ends = origin(echo)
    with client_of(proxy_to(address, Logs)) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
    wait_until(lambda: len(found) == 2)
    assert found == [None, None]


class Hurried(ProxyHttp):
    """Sends without a pause, and counts how often others have their turn meanwhile."""

    n_turns = 0

    async def websocket_message(self, session, ctx, direction, message):
        if direction == "upstream":
            others = asyncio.create_task(self.others())
            for number in range(200):
                await session.websocket.send("downstream", str(number))
            others.cancel()
        return DROP

    async def others(self):
        while True:
            self.n_turns += 1
            await asyncio.sleep(0)


def test_sending_without_a_pause_leaves_others_their_turns(origin, proxy_to):
    address, _ends = origin(echo)
    proxy = proxy_to(address, Hurried)
    (service,) = proxy.serving.services
    with client_of(proxy) as client:
        client.send("go")
        assert [client.recv(timeout=10) for _ in range(200)] == [str(number) for number in range(200)]
    assert service.plan.proxy.n_turns > 10


def test_messages_of_its_own_keep_a_websocket_from_the_limit_of_messages(origin, proxy_to):
    class Ticking(ProxyHttp):
        async def websocket_message(self, session, ctx, direction, message):
            if direction == "upstream":
                self.ticker = asyncio.get_running_loop().create_task(self.tick(session.websocket))

        async def tick(self, websocket):
            for i in range(15):
                await asyncio.sleep(0.1)  # in all longer than the limit, which nothing in between comes near
                await websocket.send("downstream", str(i))

    address, _ends = origin(echo, ping_interval=None)
    with client_of(proxy_to(address, Ticking, Limits(message_timeout=1.0)), ping_interval=None) as client:
        client.send("go")
        assert [client.recv(timeout=10) for _ in range(16)] == ["go", *map(str, range(15))]
