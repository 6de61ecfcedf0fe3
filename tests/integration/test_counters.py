"""What is counted, over real connections."""

import asyncio
import re
import socket
from pathlib import Path

import pytest
from conversations import GET, Forwarding, post, proxy_to, wait_until

from pingora import Limits, LoadBalancer, ProxyHttp, Response, RetryPolicy
from pingora.testing import read_all
from pingora_c.proxy.counter_names import COUNTER_NAMES

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
DOCUMENTS = Path(__file__).parents[2] / "docs"


def counted(proxy):
    """Give what is not zero once no request and no connection is left."""
    wait_until(lambda: not (proxy.serving.counters["pingora_connections_open"] or proxy.serving.activity()[1]))
    return {name.removeprefix("pingora_"): n for name, n in proxy.serving.counters.items() if n}


def test_a_request_and_its_answer_are_counted(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(b"HTTP/1.1 103 Early\r\n\r\n" + HELLO).address))
    for _ in range(3):
        proxy.exchange(GET)
    assert counted(proxy) == {
        "connections_accepted_total": 3,
        "requests_total": 3,
        'responses_total{class="1xx"}': 3,
        'responses_total{class="2xx"}': 3,
        "upstream_attempts_total": 3,
    }


def test_what_is_open_and_active_is_counted_while_it_is(proxy_factory):
    class Waits(ProxyHttp):
        upstreams = LoadBalancer(["127.0.0.1:1"])

        async def request_filter(self, session, ctx):
            await asyncio.Event().wait()

    proxy = proxy_factory(Waits())
    with proxy.connect() as client, proxy.connect():
        client.sendall(GET)
        wait_until(lambda: proxy.serving.counters["pingora_requests_active"] == 1)
        wait_until(lambda: proxy.serving.counters["pingora_connections_open"] == 2)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST: the request is cancelled
    assert counted(proxy) == {
        "connections_accepted_total": 2,
        "requests_total": 1,
        'failures_total{reason="client_gone"}': 1,
    }


def test_an_attempt_that_is_tried_again_fails_and_its_request_does_not(proxy_factory, origin_factory):
    class Balanced(ProxyHttp):
        retry = RetryPolicy(lost=True)
        upstreams = LoadBalancer(
            [origin_factory(lambda connection, data: connection.close()).address for _ in range(2)]
        )

        def error_while_proxy(self, session, peer, error, reused, ctx):
            return Response(200) if session.attempts == 2 else None

    proxy = proxy_factory(Balanced())
    proxy.exchange(GET)
    assert counted(proxy) == {
        "connections_accepted_total": 1,
        "requests_total": 1,
        'responses_total{class="2xx"}': 1,
        "upstream_attempts_total": 2,
        "retries_total": 1,
        'upstream_failures_total{reason="upstream_closed"}': 2,
    }


def test_a_request_that_failed_is_counted_by_its_reason(proxy_factory):
    proxy = proxy_factory(Forwarding("127.0.0.1:1"))
    proxy.exchange(post(b"hello"))
    seen = counted(proxy)
    assert seen['failures_total{reason="connect_failed"}'] == 1
    assert seen['upstream_failures_total{reason="connect_failed"}'] == seen["upstream_attempts_total"]
    assert seen['responses_total{class="5xx"}'] == 1


@pytest.mark.parametrize(
    ("sent", "reason", "status"),
    [
        (b"?\r\n\r\n", "bad_method", 400),
        (b"GET / HTTP/1.1\r\n\r\n", "no_host", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "unknown_transfer_coding", 501),
        (b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 9000), "target_too_long", 414),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "connect_refused", 405),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_is_counted_by_its_reason(proxy_factory, sent, reason, status):
    proxy = proxy_factory(Forwarding("127.0.0.1:1"))
    assert proxy.exchange(sent).startswith(b"HTTP/1.1 %d " % status)
    assert counted(proxy) == {
        "connections_accepted_total": 1,
        f'refusals_total{{reason="{reason}"}}': 1,
        f'responses_total{{class="{status // 100}xx"}}': 1,
    }


def test_idle_connections_that_are_closed_are_counted(proxy_factory):
    proxy = proxy_factory(Forwarding("127.0.0.1:1"), Limits(keep_alive=0.02))
    with proxy.connect() as client:
        assert read_all(client) == b""
    assert counted(proxy) == {"connections_accepted_total": 1, 'connections_closed_total{reason="keep_alive"}': 1}


@pytest.mark.parametrize("name", sorted({name for name in COUNTER_NAMES if name}))
def test_every_name_and_reason_is_documented(name):
    family, _, reason = name.partition('{reason="')
    text = (DOCUMENTS / "counters.md").read_text()
    assert re.search(rf"^\| `{re.escape(family.partition('{')[0])}[`{{]", text, re.MULTILINE)
    if reason:
        page = (DOCUMENTS / "phases.md").read_text() if "failures" in family else text
        assert f"`{reason[:-2]}`" in page
