"""Endpoints that fail requests are left out of selection, tried again, and come back (docs/load_balancing.md)."""

import socket

import pytest
from conversations import GET, proxy_to, wait_until

from pingora import LoadBalancer, PassiveHealth, ProxyHttp, RetryPolicy

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
TRUNCATED = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
LONG = PassiveHealth(failures=3, window=3600, back_off=3600, longest_back_off=3600)


def hang_up(connection, data):
    connection.shutdown(socket.SHUT_RDWR)


def truncate(connection, data):
    connection.sendall(TRUNCATED)
    connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def nobody():
    """An address that refuses every connect, reserved for the test."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


def balanced(addresses, passive, retry=None):
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer(addresses, passive=passive)
    proxy.retry = retry or RetryPolicy()
    return proxy


def counted(running):
    counters = running.serving.counters
    return counters["pingora_endpoint_outages_total"], counters["pingora_endpoint_returns_total"]


def test_f1_one_that_refuses_connects_is_left_out_after_three_and_nobody_notices(proxy_factory, origin_factory, nobody):
    proxy = balanced([nobody, origin_factory(HELLO).address], LONG)
    running = proxy_factory(proxy)
    assert all(running.exchange(GET).endswith(b"hello") for _ in range(20))
    dead, alive = proxy.upstreams.endpoints
    assert (dead.started, dead.failed, dead.is_available) == (3, 3, False)
    assert alive.started == 20
    assert counted(running) == (1, 0)


def test_the_default_takes_out_as_well(proxy_factory, origin_factory, nobody):
    proxy = proxy_to(nobody, origin_factory(HELLO).address)
    running = proxy_factory(proxy)
    assert all(running.exchange(GET).endswith(b"hello") for _ in range(12))
    assert proxy.upstreams.endpoints[0].started == 3


def test_it_can_be_switched_off(proxy_factory, origin_factory, nobody):
    proxy = balanced([nobody, origin_factory(HELLO).address], PassiveHealth(failures=0))
    running = proxy_factory(proxy)
    assert all(running.exchange(GET).endswith(b"hello") for _ in range(20))
    assert proxy.upstreams.endpoints[0].started >= 10


def test_an_endpoint_that_dies_and_returns_serves_again(proxy_factory, origin_factory):
    scripts = {"now": HELLO}

    def script(connection, data):
        if scripts["now"] is None:
            hang_up(connection, data)
        else:
            connection.sendall(scripts["now"])

    origin = origin_factory(script)
    steady = origin_factory(HELLO)
    proxy = balanced([origin.address, steady.address], PassiveHealth(failures=2, back_off=0.02), RetryPolicy(lost=True))
    running = proxy_factory(proxy)
    running.exchange(GET)
    scripts["now"] = None
    endpoint = proxy.upstreams.endpoints[0]
    wait_until(lambda: running.exchange(GET) and endpoint.out_for is not None)
    scripts["now"] = HELLO
    wait_until(lambda: running.exchange(GET).endswith(b"hello") and endpoint.out_for is None)
    assert running.exchange(GET).endswith(b"hello")
    outages, returns = counted(running)
    assert outages >= 1
    assert returns == 1


def test_if_all_are_out_all_are_tried_and_the_first_answer_ends_that(proxy_factory, origin_factory):
    works = []
    origin = origin_factory(lambda connection, data: connection.sendall(HELLO) if works else hang_up(connection, data))
    proxy = balanced([origin.address], LONG)
    running = proxy_factory(proxy)
    for _ in range(6):
        assert b"502" in running.exchange(GET)[:20]
    endpoint = proxy.upstreams.endpoints[0]
    assert (endpoint.started, endpoint.is_available) == (6, False)
    works.append(True)
    assert running.exchange(GET).endswith(b"hello")
    assert endpoint.is_available
    assert counted(running) == (1, 1)


@pytest.mark.parametrize("script", [hang_up, truncate], ids=["no answer", "a truncated answer"])
def test_answers_that_do_not_come_or_break_off_count(proxy_factory, origin_factory, script):
    proxy = balanced([origin_factory(script).address, origin_factory(HELLO).address], LONG)
    running = proxy_factory(proxy)
    for _ in range(12):
        running.exchange(GET)
    assert [endpoint.started for endpoint in proxy.upstreams.endpoints] == [3, 9]


def test_statuses_count_if_they_are_named(proxy_factory, origin_factory):
    busy, good = origin_factory(BUSY), origin_factory(HELLO)
    rules = PassiveHealth(failures=2, window=3600, back_off=3600, statuses=(503,))
    proxy = balanced([busy.address, good.address], rules)
    running = proxy_factory(proxy)
    answers = [running.exchange(GET) for _ in range(10)]
    assert sum(answer.endswith(b"busy") for answer in answers) == 2
    assert not proxy.upstreams.endpoints[0].is_available
    other = balanced([busy.address, good.address], LONG)
    running = proxy_factory(other)
    assert sum(running.exchange(GET).endswith(b"busy") for _ in range(10)) == 5


def test_statuses_that_are_only_tried_again_take_nothing_out(proxy_factory, origin_factory):
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    addresses = [origin_factory(missing).address, origin_factory(HELLO).address]
    proxy = balanced(addresses, PassiveHealth(failures=2, statuses=()), RetryPolicy(statuses=(404,)))
    running = proxy_factory(proxy)
    assert all(running.exchange(GET).endswith(b"hello") for _ in range(10))
    assert proxy.upstreams.endpoints[0].is_available


def test_a_hook_that_rewrites_a_status_changes_nothing(proxy_factory, origin_factory):
    class Rewrites(ProxyHttp):
        upstreams = LoadBalancer([origin_factory(HELLO).address], passive=PassiveHealth(failures=1, statuses=(503,)))

        def response_filter(self, session, response, ctx):
            response.status = 503

    proxy = Rewrites()
    running = proxy_factory(proxy)
    for _ in range(3):
        assert running.exchange(GET).startswith(b"HTTP/1.1 503")
    assert proxy.upstreams.endpoints[0].is_available


def test_clients_that_leave_do_not_count(proxy_factory, origin_factory):
    origin = origin_factory(lambda connection, data: connection.recv(1))
    proxy = balanced([origin.address], PassiveHealth(failures=1, back_off=3600, longest_back_off=3600))
    running = proxy_factory(proxy)
    for n in range(1, 5):
        with running.connect() as client:
            client.sendall(GET)
            wait_until(lambda n=n: len(origin.heads) == n)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wait_until(lambda: proxy.upstreams.endpoints[0].in_flight == 0)
    assert proxy.upstreams.endpoints[0].is_available


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"failures": -1}, "failures: expected 0 to 1000"),
        ({"failures": True}, "failures"),
        ({"failures": 1.5}, "failures"),
        ({"window": 0}, "window: expected"),
        ({"back_off": -1}, "back_off"),
        ({"longest_back_off": 1e9}, "longest_back_off"),
        ({"statuses": (200,)}, "statuses"),
        ({"statuses": (500,) * 17}, "statuses"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PassiveHealth(**settings)
