"""What the JSON access log says of an answer, and what a session says of it."""

import asyncio
import json
import socket
import types

import pytest
from conversations import GET, Forwarding
from http2_frames import GET as GET_OF_HTTP2
from http2_frames import FrameClient, replaced
from inside import Gate, settle

from pingora import Limits, Response, Server
from pingora.serving import Serving
from pingora.testing import read_all
from pingora_c.log.writer import LogWriter

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def lines_of(path, hooks, converse, limits=None):
    """Serve while `converse(address)` runs; the lines of the access log."""

    async def main():
        server = Server(access_log="json", limits=limits)
        server.add_proxy(hooks, "127.0.0.1:0")
        server.bind()
        with path.open("wb") as file:
            writer = LogWriter(file.fileno())
            serving = Serving(server, asyncio.get_running_loop(), writer)
            await serving.start()
            serving.accept()
            host, _, port = serving.address.rpartition(":")
            await asyncio.to_thread(converse, (host, int(port)))
            await serving.drain(10.0)
            writer.close()

    asyncio.run(main())
    return [json.loads(line) for line in path.read_text().splitlines()]


def exchange(address, request):
    with socket.create_connection(address, 10) as client:
        client.sendall(request)
        return read_all(client)


class Answers(Forwarding):
    """Answers with the status in the path and a body, or asks the origin with GET, and notes what it sent."""

    def __init__(self, address):
        super().__init__(address)
        self.sent = []

    def request_filter(self, session, ctx):
        if session.request.path != "/":
            return Response(int(session.request.path[1:]), body=b"some")

    def upstream_request_filter(self, session, request, ctx):
        request.method = "GET"

    def logging(self, session, error, ctx):
        self.sent.append(session.bytes_sent)


WITHOUT_BODY = pytest.mark.parametrize(
    ("method", "path"), [("GET", "/204"), ("GET", "/205"), ("GET", "/304"), ("HEAD", "/")]
)


@WITHOUT_BODY
def test_the_log_counts_no_bytes_of_a_body_that_is_not_sent(origin_factory, tmp_path, method, path):
    hooks = Answers(origin_factory(OK).address)
    request = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    (line,) = lines_of(tmp_path / "log", hooks, lambda address: exchange(address, request))
    assert line["bytes_sent"] == 0


@WITHOUT_BODY
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_a_session_counts_no_bytes_of_a_body_that_is_not_sent(proxy_factory, origin_factory, version, method, path):
    hooks = Answers(origin_factory(OK).address)
    proxy = proxy_factory(hooks)
    if version == "HTTP/2":
        with FrameClient(proxy) as client:
            client.request(replaced(GET_OF_HTTP2, method=method, path=path))
            assert client.answer()["body"] == b""
    else:
        proxy.exchange(f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    proxy.close()
    assert hooks.sent == [0]


def test_the_time_to_a_connection_is_null_for_an_answer_of_a_hook(tmp_path):
    request = GET.replace(b"/ ", b"/200 ", 1)
    (line,) = lines_of(tmp_path / "log", Answers("127.0.0.1:1"), lambda address: exchange(address, request))
    assert (line["attempts"], line["connect_ms"]) == (0, None)


def test_bytes_of_a_request_behind_its_early_answer_make_no_failure_of_it(origin_factory, tmp_path):
    gate = Gate()

    class LogsLater(Forwarding):
        async def logging(self, session, error, ctx):
            await gate.wait()

    def answer_early(connection, data):
        connection.sendall(OK)
        read_all(connection)

    def converse(address):
        with socket.create_connection(address, 10) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            gate.await_hook()
            client.sendall(b"20\r\n" + bytes(32) + b"\r\n")
            settle(types.SimpleNamespace(exchange=lambda request: exchange(address, request)))
            gate.open()
            read_all(client)

    hooks = LogsLater(origin_factory(answer_early).address)
    lines = lines_of(tmp_path / "log", hooks, converse, Limits(body_bytes=30))
    assert [(line["status"], line["error"]) for line in lines if line["method"] == "POST"] == [(200, None)]
