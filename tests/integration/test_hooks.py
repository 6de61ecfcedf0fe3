"""Hooks of a live proxy: answers, edits, coroutines, failures, isolation."""

import asyncio
import contextvars
import socket
import struct
import threading

import pytest
from conversations import Forwarding

from pingora import HttpPeer, LoadBalancer, ProxyHttp, Response, SessionEnded
from pingora.usage import UsageError

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: origin\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Base(ProxyHttp):
    def __init__(self, origin):
        self.upstreams = LoadBalancer([origin.address])


def test_hooks_answer_edit_and_log(proxy_factory, origin_factory):
    class Gateway(Base):
        seen = []

        def new_ctx(self):
            return {"n": 1}

        def request_filter(self, session, ctx):
            if session.request.headers.get("x-api-key") != "secret":
                return Response(403, {"content-type": "text/plain"}, b"no key\n")
            return None

        async def upstream_peer(self, session, ctx):
            await asyncio.sleep(0)
            return HttpPeer(self.upstreams.select())

        def upstream_request_filter(self, session, request, ctx):
            request.headers["x-gateway"] = "pingora"

        def response_filter(self, session, response, ctx):
            response.headers["server"] = "pingora"

        def logging(self, session, error, ctx):
            self.seen.append((session.response.status, error, ctx, session.timings.total_ms >= 0))

    origin = origin_factory(HELLO)
    proxy = proxy_factory(Gateway(origin))
    assert proxy.exchange(GET).endswith(b"no key\n")
    got = proxy.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: secret\r\n\r\n")
    assert got.endswith(b"hello")
    assert b"Server: pingora\r\n" in got
    assert b"x-gateway: pingora\r\n" in origin.heads[0]
    assert b"server" not in origin.heads[0].lower()
    assert Gateway.seen == [(403, None, {"n": 1}, True), (200, None, {"n": 1}, True)]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_hook_that_raises_answers_500_and_the_connection_goes_on(proxy_factory, origin_factory, is_async):
    class Raises(Base):
        def request_filter(self, session, ctx):
            if is_async:
                return self.later(session)
            return self.now(session)

        def now(self, session):
            if session.request.path == "/bad":
                raise RuntimeError("on purpose")

        async def later(self, session):
            await asyncio.sleep(0.001)
            self.now(session)

    proxy = proxy_factory(Raises(origin_factory(HELLO)))
    got = proxy.exchange(GET.replace(b"/ ", b"/bad ") + GET)
    assert got.startswith(b"HTTP/1.1 500")
    assert got.endswith(b"hello")


def test_timeout_and_task_group_work_from_the_first_step(proxy_factory, origin_factory):
    class Waits(Base):
        async def request_filter(self, session, ctx):
            assert asyncio.current_task() is not None
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(5)
            except TimeoutError:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(asyncio.sleep(0, i)) for i in range(3)]
                return Response(200, {}, str(sum(task.result() for task in tasks)))

    assert proxy_factory(Waits(origin_factory(HELLO))).exchange(GET).endswith(b"\r\n\r\n3")


def test_context_variables_do_not_leak_between_sessions(proxy_factory, origin_factory):
    tenant = contextvars.ContextVar("tenant", default="none")

    class Tenants(Base):
        def early_request_filter(self, session, ctx):
            before = tenant.get()
            tenant.set(session.request.path)
            if before != "none":
                raise AssertionError(before)

        async def request_filter(self, session, ctx):
            await asyncio.sleep(0.001)
            return Response(200, {}, tenant.get() + " ")

    got = proxy_factory(Tenants(origin_factory(HELLO))).exchange(
        b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(5))
    )
    assert [b"\r\n\r\n/%d " % i in got for i in range(5)] == [True] * 5


def test_an_async_body_of_hooks_never_loses_an_answer_that_came_meanwhile(proxy_factory, origin_factory):
    class Slow(Base):
        async def response_filter(self, session, response, ctx):
            await asyncio.sleep(0.01)
            response.headers["x-slow"] = "1"

    proxy = proxy_factory(Slow(origin_factory(HELLO)))
    for _ in range(3):
        got = proxy.exchange(GET)
        assert got.endswith(b"hello")
        assert b"x-slow: 1\r\n" in got


def test_fail_to_proxy_makes_the_error_page(proxy_factory):
    class Page(ProxyHttp):
        def __init__(self):
            self.upstreams = LoadBalancer(["127.0.0.1:1"])

        def fail_to_proxy(self, session, error, ctx):
            return Response(502, {"x-reason": error.reason}, "sorry")

    got = proxy_factory(Page()).exchange(GET)
    assert got.startswith(b"HTTP/1.1 502")
    assert b"x-reason: connect_failed\r\n" in got
    assert got.endswith(b"sorry")


@pytest.mark.parametrize("name", ["x-a\r\nx-b", "transfer-encoding", "content-length"])
def test_a_hook_cannot_inject_fields(proxy_factory, origin_factory, name):
    class Injects(Base):
        def response_filter(self, session, response, ctx):
            response.headers[name] = "1"

    assert proxy_factory(Injects(origin_factory(HELLO))).exchange(GET).startswith(b"HTTP/1.1 500")


@pytest.mark.parametrize("name", ["Content_Length", b"content_length", "TRANSFER_ENCODING"])
def test_a_hook_cannot_write_what_some_receivers_frame_by(proxy_factory, origin_factory, name):
    class Writes(Base):
        def upstream_request_filter(self, session, request, ctx):
            for write in (request.headers.__setitem__, request.headers.add):
                with pytest.raises(ValueError, match="cannot be written: it frames the message"):
                    write(name, "5")
            request.headers["Content_Lengths"] = "5"

        def response_filter(self, session, response, ctx):
            with pytest.raises(ValueError, match="cannot be written: it frames the message"):
                Response(200, {name: "5"})
            with pytest.raises(ValueError, match="cannot be written: it frames the message"):
                response.headers.update({name: "5"})

    origin = origin_factory(HELLO)
    answer = proxy_factory(Writes(origin)).exchange(GET)
    assert answer.endswith(b"\r\n\r\nhello")
    assert b"Content_Lengths: 5\r\n" in origin.heads[0]
    for head in (answer, origin.heads[0].replace(b"Content_Lengths", b"")):
        assert b"_" not in head


@pytest.mark.parametrize("asked", [b"GET", b"POST"])
@pytest.mark.parametrize("framing", [b"Content-Length: 7", b"Transfer-Encoding: chunked", b"X-A: b"])
def test_a_hook_that_asks_with_head_has_the_client_answered_without_a_body(
    proxy_factory, origin_factory, asked, framing
):
    class Asks(Base):
        def upstream_request_filter(self, session, request, ctx):
            request.method = "HEAD"

    origin = origin_factory(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % framing)
    proxy = proxy_factory(Asks(origin))
    with proxy.connect() as client:
        for _ in range(2):  # the connection goes on behind a whole answer
            client.sendall(asked + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\nContent-Length: 0\r\n" in answer
            assert answer.endswith(b"\r\n\r\n")
    assert all(head.startswith(b"HEAD / ") for head in origin.heads)


def test_a_hook_that_answers_anew_what_was_not_modified_has_no_body_to_send(proxy_factory, origin_factory):
    class Renames(Base):
        def response_filter(self, session, response, ctx):
            response.status = 200

    origin = origin_factory(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n")
    with proxy_factory(Renames(origin)).connect() as client:
        for _ in range(2):
            client.sendall(GET)
            answer = client.recv(65536)
            assert b"\r\nContent-Length: 0\r\n" in answer


@pytest.mark.parametrize("body", [b"x", bytes(100_000)], ids=["small", "large"])
def test_an_answer_of_a_hook_with_status_205_has_no_content(proxy_factory, origin_factory, body):
    class Resets(Base):
        def request_filter(self, session, ctx):
            return Response(205, body=body)

    with proxy_factory(Resets(origin_factory(HELLO))).connect() as client:
        for _ in range(2):
            client.sendall(GET)
            answer = client.recv(65536)
            assert b"\r\nContent-Length: 0\r\n" in answer
            assert answer.endswith(b"\r\n\r\n")


def test_an_answer_of_a_hook_with_status_304_and_no_body_tells_no_length(proxy_factory, origin_factory):
    class NotModified(Base):
        def request_filter(self, session, ctx):
            return Response(304, {"etag": '"a"'})

    answer = proxy_factory(NotModified(origin_factory(HELLO))).exchange(GET)
    assert answer.startswith(b"HTTP/1.1 304 ")
    assert answer.endswith(b"\r\n\r\n")
    assert b"content-length" not in answer.lower()


def test_what_a_connection_persists_reaches_its_next_request_only(proxy_factory, origin_factory):
    class Counting(Forwarding):
        def new_ctx(self):
            return {"n": 1}

        def on_connection_reuse(self, session, persisted, ctx):
            ctx["n"] = persisted + 1

        def response_filter(self, session, response, ctx):
            response.headers["x-n"] = str(ctx["n"])

        async def persist_connection_context(self, session, ctx):
            return ctx["n"]

    proxy = proxy_factory(Counting(origin_factory(HELLO).address))
    with proxy.connect() as client:
        for n in range(1, 4):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"x-n: %d\r\n" % n in client.recv(1000)
    assert b"x-n: 1\r\n" in proxy.exchange(GET)


def test_the_error_log_names_request_reason_and_upstream(proxy_factory, caplog):
    proxy_factory(Forwarding("127.0.0.1:1")).exchange(GET)
    assert "GET /, Host: a: connect_failed, status 502, client 127.0.0.1:" in caplog.text
    assert "upstream 127.0.0.1:1, attempts 3" in caplog.text


def test_hooks_write_or_suppress_the_line_of_the_error_log(proxy_factory, caplog):
    class Quiet(Forwarding):
        async def suppress_error_log(self, session, error, ctx):
            return session.request.path == "/quiet"

        async def request_summary(self, session, ctx):
            return f"my request {session.request.path}"

    proxy = proxy_factory(Quiet("127.0.0.1:1"))
    proxy.exchange(GET.replace(b"/ ", b"/quiet "))
    proxy.exchange(GET.replace(b"/ ", b"/loud "))
    assert "quiet" not in caplog.text
    assert "my request /loud: connect_failed" in caplog.text


def test_a_session_tells_addresses_reuse_bytes_and_timings(proxy_factory, origin_factory):
    seen = []

    class Telling(Forwarding):
        def logging(self, session, error, ctx):
            timings = session.timings
            order = 0 <= timings.head_ms <= timings.first_byte_ms <= timings.total_ms and timings.hooks_ms >= 0
            seen.append((session.server_address, session.reused, session.bytes_sent, order, session.attempts))
            assert session.client_address.startswith("127.0.0.1:")

    proxy = proxy_factory(Telling(origin_factory(HELLO).address))
    for _ in range(2):
        proxy.exchange(GET)
    assert seen == [(proxy.address, False, 5, True, 1), (proxy.address, True, 5, True, 1)]


def test_a_kept_session_tells_that_it_has_ended(proxy_factory, origin_factory):
    kept = []

    class Keeping(Forwarding):
        def request_filter(self, session, ctx):
            kept.append(session)

    proxy_factory(Keeping(origin_factory(HELLO).address)).exchange(GET)
    assert kept[0].request.target == "/"
    assert kept[0].response.status == 200
    with pytest.raises(SessionEnded):
        kept[0].read_body()
    with pytest.raises(SessionEnded):
        str(kept[0].server_address)


def test_one_hook_may_have_a_limit_of_its_own(proxy_factory, origin_factory):
    class Slow(Forwarding):
        hook_timeouts = {"request_filter": 0.05}

        async def request_filter(self, session, ctx):
            await asyncio.sleep(60)

    answer = proxy_factory(Slow(origin_factory(HELLO).address)).exchange(GET)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"hook_timeout" in answer


def test_a_client_that_left_is_a_499_to_the_log(proxy_factory):
    begun = threading.Event()
    seen = []

    class Logging(Forwarding):
        async def request_filter(self, session, ctx):
            begun.set()
            await asyncio.sleep(60)

        def logging(self, session, error, ctx):
            seen.append((session.response.status, error.reason))

    proxy = proxy_factory(Logging("127.0.0.1:1"))
    with proxy.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(GET)
        assert begun.wait(5)
    proxy.close()
    assert seen == [(499, "client_gone")]


def test_a_limit_for_a_body_filter_is_refused(proxy_factory):
    class Limited(Forwarding):
        hook_timeouts = {"response_body_filter": 1.0}

    with pytest.raises(UsageError, match="response_body_filter has no limit"):
        proxy_factory(Limited("127.0.0.1:1"))
