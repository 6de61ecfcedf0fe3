"""What the proxy answers by itself: pages by status, the reason in a header and in both logs."""

import asyncio
import json
import logging
import os
import socket

import pytest
from conversations import GET, Forwarding, post

from pingora import Limits, Response, Server, serve
from pingora.serving import Serving
from pingora.testing import read_all
from pingora_c.log.writer import LogWriter

NOBODY = "127.0.0.1:1"
NO_HOST = b"GET / HTTP/1.1\r\n\r\n"
LONG = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 9000)
LARGE = b"GET / HTTP/1.1\r\nHost: a\r\nA: %s\r\n\r\n" % (b"a" * 40000)


class Raises(Forwarding):
    def request_filter(self, session, ctx):
        raise RuntimeError


async def ask(serving, request):
    host, _, port = serving.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def asked(request, proxy=None, **options):
    """Give status, fields by lower-case name and body of the answer of a proxy without an origin."""

    async def main():
        async with serve(proxy or Forwarding(NOBODY), **options) as serving:
            return await ask(serving, request)

    head, _, body = asyncio.run(main()).partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    named = dict(field.split(": ", 1) for field in fields)
    return int(line.split()[1]), {name.lower(): value for name, value in named.items()}, body


@pytest.mark.parametrize(
    ("status", "request_bytes", "proxy"),
    [
        (502, GET, None),
        (500, GET, Raises(NOBODY)),
        (413, post(b"hello"), None),
        (400, NO_HOST, None),
        (400, b"?\r\n\r\n", None),
        (414, LONG, None),
        (431, LARGE, None),
        (501, GET[:-2] + b"Transfer-Encoding: gzip\r\n\r\n", None),
    ],
)
@pytest.mark.parametrize("kind", ["Response", "bytes", "path"])
def test_a_page_is_sent_for_its_status_whether_a_session_saw_the_request_or_not(
    tmp_path, kind, status, request_bytes, proxy
):
    (tmp_path / "page.json").write_bytes(b'{"sorry": true}')
    page, type_, body = {
        "Response": (Response(status, {"content-type": "text/x", "X-Page": "1"}, "own"), "text/x", b"own"),
        "bytes": (b"<p>sorry", "text/html; charset=utf-8", b"<p>sorry"),
        "path": (tmp_path / "page.json", "application/json", b'{"sorry": true}'),
    }[kind]
    for _ in range(2):
        got = asked(request_bytes, proxy, limits=Limits(body_bytes=4), error_pages={status: page, 599: b"not this"})
        assert got[0] == status
        assert got[1]["content-type"] == type_
        assert got[1]["content-length"] == str(len(body))
        assert got[1]["connection"] == "close"
        assert got[1].get("x-page") == ("1" if kind == "Response" else None)
        assert got[2] == body


def test_a_large_page_arrives_whole():
    page = os.urandom(3_000_000)
    for request in (GET, NO_HOST):
        assert asked(request, error_pages={502: page, 400: page})[2] == page


def test_a_large_page_arrives_whole_although_the_client_reads_only_when_it_has_sent_its_body():
    """More than both sockets take of either: each side would wait until the other one reads."""
    page = os.urandom(8 << 20)

    def upload(address):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 30) as client:
            client.sendall(post(bytes(32 << 20)))
            return read_all(client)

    async def main():
        limits = Limits(body_bytes=1000, write_timeout=5)
        async with serve(Forwarding(NOBODY), limits=limits, error_pages={413: page}) as serving:
            return await asyncio.to_thread(upload, serving.address)

    assert asyncio.run(main()).endswith(b"\r\n\r\n" + page)


@pytest.mark.parametrize("size", [15_000, 8 << 20])
def test_a_client_that_is_turned_away_has_a_whole_answer_whatever_the_size_of_the_page(size):
    page = os.urandom(size)

    async def main():
        limits = Limits(client_connections=1)
        async with serve(Forwarding(NOBODY), limits=limits, error_pages={503: page}) as serving:
            host, _, port = serving.address.rpartition(":")
            _, first = await asyncio.open_connection(host, int(port))
            answer = await ask(serving, b"")  # a request that comes too late would reset it
            first.close()
            return answer

    head, _, body = asyncio.run(main()).partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    assert body == (page if size < 16_000 else b"503 client_connections\n")


def test_a_page_for_head_has_no_body():
    status, fields, body = asked(GET.replace(b"GET", b"HEAD"), error_pages={502: b"<p>sorry"})
    assert (status, fields["content-length"], body) == (502, "8", b"")


def test_the_phase_decides_before_the_page():
    class Decides(Forwarding):
        def fail_to_proxy(self, session, error, ctx):
            return Response(503, body=error.reason) if session.request.path == "/own" else None

    pages = {502: b"<p>sorry"}
    assert asked(GET.replace(b"/ ", b"/own "), Decides(NOBODY), error_pages=pages)[::2] == (503, b"connect_failed")
    assert asked(GET, Decides(NOBODY), error_pages=pages)[::2] == (502, b"<p>sorry")


def test_what_a_hook_does_to_an_answer_does_not_change_the_page():
    class Marks(Forwarding):
        def logging(self, session, error, ctx):
            session.response.headers["X-Mark"] = "1"

    async def main():
        async with serve(Marks(NOBODY), error_pages={502: b"page"}) as serving:
            for _ in range(2):
                assert b"X-Mark" not in await ask(serving, GET)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("request_bytes", "reason", "status"),
    [(GET, "connect_failed", 502), (NO_HOST, "no_host", 400), (LONG, "target_too_long", 414)],
)
@pytest.mark.parametrize("pages", [{}, {400: b"x", 414: b"x", 502: b"x"}], ids=["default pages", "own pages"])
def test_the_reason_is_told_in_a_header_if_that_is_asked_for(request_bytes, reason, status, pages):
    assert asked(request_bytes, error_pages=pages, reason_header="X-Reason")[:2][1]["x-reason"] == reason
    status_without, fields, body = asked(request_bytes, error_pages=pages)
    assert status_without == status
    assert "x-reason" not in fields
    assert body == (b"x" if pages else b"%d %s\n" % (status, reason.encode()))


def test_the_answer_of_fail_to_proxy_tells_the_reason_and_the_hooks_object_stays_as_it_is():
    kept = Response(503, body=b"kept")

    class Decides(Forwarding):
        def fail_to_proxy(self, session, error, ctx):
            return kept

    status, fields, body = asked(GET, Decides(NOBODY), reason_header="X-Reason")
    assert (status, fields["x-reason"], body) == (503, "connect_failed", b"kept")
    assert "x-reason" not in kept.headers


def test_an_answer_that_is_no_error_tells_no_reason():
    class Answers(Forwarding):
        def request_filter(self, session, ctx):
            return Response(404)

    assert "x-reason" not in asked(GET, Answers(NOBODY), reason_header="X-Reason")[1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"error_pages": {200: b"x"}}, r"error_pages: 200: expected a status from 400 to 599"),
        ({"error_pages": {True: b"x", 700: b"x"}}, r"error_pages: True: .*; 700: "),
        ({"error_pages": {404: "/no/such.html"}}, r"error_pages: 404: .*No such file.*/no/such\.html"),
        ({"error_pages": {404: 5}}, r"error_pages: 404: expected a Response, bytes or the path of a file, got int"),
        ({"error_pages": {404: Response(403)}}, r"error page 404: expected a Response\(404\)"),
        ({"error_pages": {404: Response(404, {"A": "a" * 20000})}}, r"error page 404: its headers are too large"),
        ({"reason_header": "a b"}, r"reason_header: expected the name of a header field, got 'a b'"),
        ({"reason_header": "Content-Length"}, r"reason_header: expected the name of a header field"),
        ({"reason_header": ""}, r"reason_header: expected the name of a header field"),
    ],
)
def test_what_makes_no_page_is_refused_when_the_server_is_made(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        Server(**options)


def test_a_page_whose_body_is_streamed_is_refused():
    async def parts():
        yield b""

    with pytest.raises(ValueError, match=r"expected a Response\(404\) with a whole body, got <Response 404 streamed>"):
        Server(error_pages={404: Response(404, body=parts())})


@pytest.mark.parametrize("style", ["json", "combined"])
def test_a_refused_message_is_in_both_logs(caplog, tmp_path, style):
    caplog.set_level(logging.WARNING)
    path = tmp_path / "access.log"

    async def main():
        server = Server(access_log=style, limits=Limits(head_timeout=0.05))
        server.add_proxy(Forwarding(NOBODY), "127.0.0.1:0")
        server.bind()
        with path.open("wb") as file:
            writer = LogWriter(file.fileno())
            serving = Serving(server, asyncio.get_running_loop(), writer)
            await serving.start()
            serving.accept()
            for request in (NO_HOST, LONG, b"GET /\x1b[31m", b"\x1b]0;x\x07 / HTTP/1.1\r\nHost: a\r\n\r\n"):
                await ask(serving, request)
            await serving.drain(1.0)
            writer.close()

    asyncio.run(main())
    expected = [("no_host", 400), ("target_too_long", 414), ("head_timeout", 408), ("bad_method", 400)]
    lines = path.read_bytes().splitlines()
    assert len(lines) == 4
    for line, (reason, status) in zip(lines, expected, strict=True):
        assert line.isascii()
        assert b"\x1b" not in line
        if style == "json":
            seen = json.loads(line)
            assert (seen["error"], seen["status"], seen["client"]) == (reason, status, "127.0.0.1")
            assert (seen["method"], seen["target"], seen["upstream"], seen["attempts"]) == (None, None, None, 0)
            assert seen["bytes_sent"] == len(f"{status} {reason}\n")
        else:
            assert b'] "-" %d %d "-" "-"' % (status, len(f"{status} {reason}\n")) in line
    logged = [message for _, _, message in caplog.record_tuples]
    assert [message.partition(", client ")[0] for message in logged] == [
        f"refused: {reason}, status {status}" for reason, status in expected
    ]


@pytest.mark.parametrize("request_bytes", [NO_HOST, LONG, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"])
def test_a_refused_head_request_gets_the_fields_of_the_page_and_no_page(request_bytes):
    status, fields, body = asked(request_bytes)
    assert body
    of_head = asked(request_bytes.replace(b"GET", b"HEAD", 1))
    assert of_head[0] == status
    assert of_head[1]["content-length"] == fields["content-length"] == str(len(body))
    assert of_head[2] == b""


def test_a_refused_head_request_behind_an_empty_line_gets_no_page():
    status, fields, body = asked(b"\r\nHEAD / HTTP/1.1\r\n\r\n")
    assert (status, fields["content-length"], body) == (400, str(len(b"400 no_host\n")), b"")


@pytest.mark.parametrize("page", [b"<p>sorry", Response(503, {"content-type": "text/html; charset=utf-8"}, "<p>sorry")])
def test_a_client_with_too_many_connections_gets_the_page_and_the_reason(page):
    async def main():
        limits = Limits(client_connections=1)
        async with serve(Forwarding(NOBODY), limits=limits, error_pages={503: page}, reason_header="X-Why") as serving:
            host, _, port = serving.address.rpartition(":")
            _, first = await asyncio.open_connection(host, int(port))
            first.write(GET[:-2])
            answers = [await ask(serving, GET) for _ in range(3)]
            first.close()
            return answers

    for answer in asyncio.run(main()):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        for field in (b"X-Why: client_connections", b"content-type: text/html; charset=utf-8", b"Connection: close"):
            assert b"\r\n" + field in head
        assert b"\r\nContent-Length: 8\r\n" in head
        assert b"\r\nDate: " in head
        assert body == b"<p>sorry"
