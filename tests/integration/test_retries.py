"""When a request is tried again, and the hooks and settings that decide it."""

import asyncio
import socket
import threading

import pytest
from conversations import GET, Forwarding, echo, post, wait_until
from inside import RESET

from pingora import HttpPeer, LoadBalancer, ProxyHttp, Response, RetryPolicy, RoundRobin

NOBODY = "127.0.0.1:1"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
PUT = post(b"hello").replace(b"POST", b"PUT")
EMPTY_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"


def hang_up(connection, data):
    """An origin that closes without an answer."""
    connection.shutdown(socket.SHUT_RDWR)


class Once:
    """An origin's script: the first request of the test gets one answer, all others another."""

    def __init__(self, first, then):
        self.scripts = [first, then]
        self.lock = threading.Lock()

    def __call__(self, connection, data):
        with self.lock:
            script = self.scripts[0] if len(self.scripts) == 1 else self.scripts.pop(0)
        if callable(script):
            script(connection, data)
        else:
            connection.sendall(script)


def forwarding(address, policy):
    proxy = Forwarding(address)
    proxy.retry = policy
    return proxy


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("request_bytes", [GET, post(b"hello")], ids=["GET", "POST"])
def test_a_refused_connect_is_tried_at_the_next_endpoint_whatever_the_method(
    proxy_factory, origin_factory, request_bytes
):
    class Balanced(ProxyHttp):
        upstreams = LoadBalancer([NOBODY, origin_factory(HELLO).address], RoundRobin())

    proxy = proxy_factory(Balanced())
    assert [status_of(proxy.exchange(request_bytes)) for _ in range(4)] == [200] * 4


@pytest.mark.parametrize(
    ("policy", "request_bytes", "status"),
    [
        pytest.param(RetryPolicy(), GET, 502, id="not by default"),
        pytest.param(RetryPolicy(lost=True), GET, 200, id="an idempotent method"),
        pytest.param(RetryPolicy(lost=True), PUT, 200, id="an idempotent method with a body"),
        pytest.param(RetryPolicy(lost=True), post(b"hello"), 502, id="POST is not idempotent"),
        pytest.param(RetryPolicy(lost=True, any_method=True), post(b"hello"), 200, id="POST if asked for"),
        pytest.param(RetryPolicy(lost=True, attempts=1), GET, 502, id="no attempt left"),
        pytest.param(RetryPolicy(lost=True, replay_bytes=4), PUT, 502, id="body longer than what is kept"),
    ],
)
def test_a_new_connection_that_dies_is_tried_again_by_policy(
    proxy_factory, origin_factory, policy, request_bytes, status
):
    origin = origin_factory(Once(hang_up, echo if b"hello" in request_bytes else HELLO))
    answer = proxy_factory(forwarding(origin.address, policy)).exchange(request_bytes)
    assert status_of(answer) == status
    if status == 200:
        assert answer.endswith(b"hello")


@pytest.mark.parametrize(("replay_bytes", "given_up"), [(4, 1), (5, 0)])
def test_a_body_that_is_too_large_to_be_sent_again_is_counted(proxy_factory, origin_factory, replay_bytes, given_up):
    policy = RetryPolicy(lost=True, replay_bytes=replay_bytes)
    proxy = proxy_factory(forwarding(origin_factory(echo).address, policy))
    assert proxy.exchange(PUT).endswith(b"hello")
    assert proxy.serving.counters["pingora_replays_given_up_total"] == given_up


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(GET, 200, id="GET"),
        pytest.param(PUT, 200, id="PUT with a body"),
        pytest.param(post(b""), 502, id="POST, of which the origin may have done its work"),
        pytest.param(post(b"hello"), 502, id="POST with a body"),
        pytest.param(EMPTY_CHUNKED, 502, id="POST with an empty chunked body, which was sent whole"),
    ],
)
def test_a_reused_connection_that_dies_is_tried_again_if_that_is_safe(
    proxy_factory, origin_factory, request_bytes, status
):
    # the first request leaves a connection in the pool, whose second one it does not answer
    origin = origin_factory(Once(HELLO, Once(hang_up, echo if b"hello" in request_bytes else HELLO)))
    proxy = proxy_factory(Forwarding(origin.address))
    assert status_of(proxy.exchange(GET)) == 200
    assert status_of(proxy.exchange(request_bytes)) == status
    assert origin.n_connections == (2 if status == 200 else 1)


class AsksWithPost(Forwarding):
    def upstream_request_filter(self, session, request, ctx):
        request.method = "POST"


def test_what_a_hook_made_a_post_is_not_sent_again_when_a_reused_connection_dies(proxy_factory, origin_factory):
    origin = origin_factory(Once(HELLO, Once(hang_up, HELLO)))
    proxy = proxy_factory(AsksWithPost(origin.address))
    assert [status_of(proxy.exchange(GET)) for _ in range(2)] == [200, 502]
    assert len(origin.heads) == 2


@pytest.mark.parametrize(
    ("policy", "first", "status"),
    [(RetryPolicy(lost=True), hang_up, 502), (RetryPolicy(statuses=(503,)), BUSY, 503)],
    ids=["lost", "statuses"],
)
def test_what_a_hook_made_a_post_is_sent_again_only_where_any_post_is(
    proxy_factory, origin_factory, policy, first, status
):
    origin = origin_factory(Once(first, HELLO))
    hooks = AsksWithPost(origin.address)
    hooks.retry = policy
    assert status_of(proxy_factory(hooks).exchange(GET)) == status
    assert len(origin.heads) == 1


@pytest.mark.parametrize(
    ("policy", "request_bytes", "status"),
    [
        pytest.param(RetryPolicy(), GET, 503, id="not by default"),
        pytest.param(RetryPolicy(statuses=(503,)), GET, 200, id="GET"),
        pytest.param(RetryPolicy(statuses=(503,)), PUT, 200, id="PUT with a body"),
        pytest.param(RetryPolicy(statuses=(503,)), post(b"hello"), 503, id="POST is not idempotent"),
        pytest.param(RetryPolicy(statuses=(502,)), GET, 503, id="another status"),
        pytest.param(RetryPolicy(statuses=(503,), attempts=1), GET, 503, id="the last answer is passed on"),
    ],
)
def test_an_answer_with_a_named_status_is_tried_again(proxy_factory, origin_factory, policy, request_bytes, status):
    origin = origin_factory(Once(BUSY, HELLO))
    assert status_of(proxy_factory(forwarding(origin.address, policy)).exchange(request_bytes)) == status


def silence(connection, data):
    connection.recv(1)


def test_a_try_that_takes_too_long_is_followed_by_another(proxy_factory, origin_factory):
    origin = origin_factory(Once(silence, HELLO))
    proxy = proxy_factory(forwarding(origin.address, RetryPolicy(try_timeout=0.1, lost=True)))
    assert status_of(proxy.exchange(GET)) == 200


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (RetryPolicy(try_timeout=0.1), "try_timeout"),
        (RetryPolicy(total_timeout=0.1, lost=True), "total_timeout"),
        (RetryPolicy(try_timeout=0.5, total_timeout=0.8, lost=True), "total_timeout"),
    ],
    ids=["one try", "all tries", "the second try is cut by the total"],
)
def test_a_silent_upstream_is_answered_504_in_time(proxy_factory, origin_factory, policy, reason):
    proxy = proxy_factory(forwarding(origin_factory(silence).address, policy))
    answer = proxy.exchange(GET)
    assert status_of(answer) == 504
    assert reason.encode() in answer
    assert proxy.serving.counters[f'pingora_failures_total{{reason="{reason}"}}'] == 1


@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("request_bytes", [GET, post(b"hello")], ids=["GET", "POST"])
def test_error_while_proxy_decides_about_another_attempt(proxy_factory, origin_factory, retry, request_bytes):
    seen = []

    class Deciding(Forwarding):
        async def error_while_proxy(self, session, peer, error, reused, ctx):
            seen.append((error.reason, error.retry, reused))
            error.retry = retry

    origin = origin_factory(Once(hang_up, HELLO))
    assert status_of(proxy_factory(Deciding(origin.address)).exchange(request_bytes)) == (200 if retry else 502)
    assert seen == [("upstream_closed", False, False)]


def test_fail_to_connect_may_stop_the_attempts_or_answer(proxy_factory):
    seen = []

    class Deciding(Forwarding):
        def fail_to_connect(self, session, peer, error, ctx):
            seen.append((session.attempts, error.reason, error.retry))
            if session.request.path == "/answer":
                return Response(418)
            error.retry = session.attempts < 2

    proxy = proxy_factory(Deciding(NOBODY))
    assert status_of(proxy.exchange(GET)) == 502
    assert status_of(proxy.exchange(GET.replace(b"/ ", b"/answer "))) == 418
    assert seen == [(1, "connect_failed", True), (2, "connect_failed", True), (1, "connect_failed", True)]


def test_an_upstream_that_dies_while_a_hook_awaits_is_tried_again(proxy_factory, origin_factory):
    origin = origin_factory(HELLO)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peers = [HttpPeer(f"127.0.0.1:{listener.getsockname()[1]}"), HttpPeer(origin.address)]

        class Slow(ProxyHttp):
            def upstream_peer(self, session, ctx):
                return peers[session.attempts]

            async def connected_to_upstream(self, session, peer, reused, ctx):
                if session.attempts == 1:
                    listener.accept()[0].close()
                    await asyncio.sleep(0.05)  # the end of the connection is seen meanwhile

        assert status_of(proxy_factory(Slow()).exchange(GET)) == 200
    assert len(origin.heads) == 1


def test_a_client_that_leaves_is_no_failure_of_the_endpoint(proxy_factory, origin_factory):
    class Balanced(ProxyHttp):
        upstreams = LoadBalancer([origin_factory(silence).address])

    proxy = proxy_factory(Balanced())
    (endpoint,) = Balanced.upstreams.endpoints
    with proxy.connect() as client:
        client.sendall(GET)
        wait_until(lambda: endpoint.in_flight)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    wait_until(lambda: not endpoint.in_flight)
    assert (endpoint.started, endpoint.failed) == (1, 0)


@pytest.mark.parametrize(
    "arguments",
    [{"attempts": 0}, {"try_timeout": 0}, {"total_timeout": -1}, {"statuses": (200,)}, {"replay_bytes": -1}],
    ids=lambda arguments: next(iter(arguments)),
)
def test_a_policy_that_makes_no_sense_is_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RetryPolicy(**arguments)
