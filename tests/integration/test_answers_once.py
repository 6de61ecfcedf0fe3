"""A request has one answer, and its head comes first, whatever else happens while a hook waits."""

import asyncio
import contextlib
import logging
import socket
import threading

import pytest
from conversations import GET, Forwarding, more_of, wait_until
from inside import RESET, Gate, narrow, narrow_client, settle

from pingora import HttpPeer, Limits, Response
from pingora.testing import read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def two_parts():
    yield b"part1"
    await asyncio.sleep(0)
    yield b"part2"


class Lost(Forwarding):
    """Its first upstream ends while `upstream_request_filter` waits; the second would answer."""

    def __init__(self, peers):
        self.peers = peers
        self.gate = Gate()
        self.logged = []

    def upstream_peer(self, session, ctx):
        return self.peers[session.attempts]

    async def upstream_request_filter(self, session, request, ctx):
        await self.gate.wait()
        return self.result()

    async def fail_to_proxy(self, session, error, ctx):
        await asyncio.sleep(0)

    async def logging(self, session, error, ctx):
        self.logged.append(error and error.reason)
        await asyncio.sleep(0)


class Streams(Lost):
    def result(self):
        return Response(403, body=two_parts())


class Answers(Lost):
    def result(self):
        return Response(403, body="denied")


class Raises(Lost):
    def result(self):
        raise PermissionError


@pytest.mark.parametrize(
    ("kind", "status", "reason"), [(Streams, 403, None), (Answers, 403, None), (Raises, 500, "hook_raised")]
)
def test_a_hook_whose_upstream_is_lost_meanwhile_answers_alone(
    proxy_factory, origin_factory, caplog, kind, status, reason
):
    caplog.set_level(logging.CRITICAL + 1)
    origin = origin_factory(HELLO)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hooks = kind([HttpPeer(f"127.0.0.1:{listener.getsockname()[1]}"), HttpPeer(origin.address)])
        proxy = proxy_factory(hooks)
        with proxy.connect() as client:
            client.sendall(GET)
            hooks.gate.await_hook()
            listener.accept()[0].close()
            settle(proxy)
            hooks.gate.open()
            answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1
    if kind is Streams:
        assert answer.endswith(b"\r\n5\r\npart1\r\n5\r\npart2\r\n0\r\n\r\n")
    assert (hooks.logged, origin.heads) == ([reason], [])


def test_a_request_body_filter_may_answer_while_a_response_filter_waits(proxy_factory, origin_factory):
    gate, between_parts = Gate(), Gate()

    class Checks(Forwarding):
        async def response_filter(self, session, response, ctx):
            await gate.wait()

        def request_body_filter(self, session, chunk, end, ctx):
            return Response(403, body=self.parts()) if b"bad" in chunk else None

        async def parts(self):
            yield b"part1"
            await between_parts.wait()
            yield b"part2"

    def answer_early(connection, data):
        connection.sendall(HELLO)
        connection.recv(65536)

    proxy = proxy_factory(Checks(origin_factory(answer_early).address))
    with proxy.connect() as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
        )
        gate.await_hook()
        client.sendall(b"3\r\nbad\r\n0\r\n\r\n")
        between_parts.await_hook()
        gate.open()  # nothing comes of the filter that waited
        settle(proxy)
        between_parts.open()
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"\r\n5\r\npart1\r\n5\r\npart2\r\n0\r\n\r\n")


def test_an_early_answer_arrives_although_the_upload_broke_while_a_hook_waited(proxy_factory, origin_factory):
    gate = Gate()
    is_reset = threading.Event()

    class Waits(Forwarding):
        async def response_filter(self, session, response, ctx):
            await gate.wait()

    def script(connection, data):
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 10\r\n\r\n0123456789")
        gate.await_hook()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()
        is_reset.set()

    def upload(client):
        with contextlib.suppress(OSError):
            client.sendall(bytes(1 << 24))

    proxy = proxy_factory(Waits(origin_factory(script).address))
    with proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        uploading = threading.Thread(target=upload, args=[client])
        uploading.start()
        assert is_reset.wait(10)
        settle(proxy)
        gate.open()
        answer = read_all(client)
    uploading.join()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"\r\n\r\n0123456789")


def test_a_body_waits_for_its_head_although_the_answer_before_it_has_left(proxy_factory, origin_factory):
    gate = Gate()

    class Waits(Forwarding):
        def request_filter(self, session, ctx):
            if session.request.path == "/first":
                narrow(client.getsockname())
                return Response(200, body=b"1" * 50_000)

        async def response_filter(self, session, response, ctx):
            await gate.wait()

    proxy = proxy_factory(Waits(origin_factory(HELLO).address))
    with narrow_client(proxy) as client:
        client.sendall(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        gate.await_hook()  # of the second answer, while the first one waits for the client
        first = b""
        while not first.endswith(b"\r\n\r\n" + b"1" * 50_000):
            first += more_of(client)
        settle(proxy)
        gate.open()
        second = read_all(client)
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert second.endswith(b"\r\n\r\nhello")


CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_MUCH = b"20\r\n" + 32 * b"x" + b"\r\n"
BAD_CHUNK = b"zz\r\n"


class ExplainsLater(Forwarding):
    def __init__(self, address):
        super().__init__(address)
        self.gate = Gate()

    async def fail_to_proxy(self, session, error, ctx):
        await self.gate.wait()
        return Response(503, body="page of a hook")


@pytest.mark.parametrize("then", [TOO_MUCH, BAD_CHUNK, None], ids=["sends on", "sends a bad chunk", "ends its side"])
@pytest.mark.parametrize("sent", [b"5\r\nhello\r\n", TOO_MUCH, BAD_CHUNK], ids=["lost", "too much", "bad chunk"])
def test_the_page_of_a_hook_that_waits_arrives_whatever_comes_of_the_request(proxy_factory, origin_factory, sent, then):
    def script(connection, data):
        if sent in (TOO_MUCH, BAD_CHUNK):
            read_all(connection)
        connection.shutdown(socket.SHUT_RDWR)

    hooks = ExplainsLater(origin_factory(script).address)
    proxy = proxy_factory(hooks, Limits(body_bytes=30))
    with proxy.connect(10) as client:
        client.sendall(CHUNKED_POST + sent)
        hooks.gate.await_hook()
        if then is None:
            client.shutdown(socket.SHUT_WR)
        else:
            client.sendall(then)
        settle(proxy)
        hooks.gate.open()
        assert read_all(client).endswith(b"\r\n\r\npage of a hook")


def test_what_comes_of_a_request_behind_its_early_answer_leaves_that_a_success(proxy_factory, origin_factory):
    gate = Gate()
    logged = []

    class LogsLater(Forwarding):
        async def logging(self, session, error, ctx):
            try:
                await gate.wait()
                logged.append("all of it")
            finally:
                logged.append(session.error and session.error.reason)

    def answer_early(connection, data):
        connection.sendall(HELLO)
        read_all(connection)

    proxy = proxy_factory(LogsLater(origin_factory(answer_early).address), Limits(body_bytes=30))
    with proxy.connect(10) as client:
        client.sendall(CHUNKED_POST)
        gate.await_hook()
        client.sendall(TOO_MUCH)
        settle(proxy)
        gate.open()
        assert read_all(client).endswith(b"hello")
    wait_until(lambda: proxy.serving.activity()[1] == 0)
    assert logged == ["all of it", None]
