"""What the edge promises, over real sockets. Fixtures are those of pingora's pytest plugin."""

import http.client
import json
import socket

import pytest
from proxy import IMMUTABLE, Edge

from pingora import Ketama, LoadBalancer, RetryPolicy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
OLD = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
FIXED = b'HTTP/1.1 200 OK\r\nCache-Control: max-age=60, immutable\r\nETag: "a"\r\nAge: 7\r\nContent-Length: 2\r\n\r\nhi'


def nobody() -> str:
    """Give an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def edge(*origins: str, standby: tuple[str, ...] = ()) -> Edge:
    """Make the hook as pingora.toml would."""
    made = Edge(standby)
    made.upstreams = LoadBalancer(list(origins), Ketama(), key="uri")
    made.retry = RetryPolicy(attempts=2, lost=True, statuses=(502, 503, 504))
    return made


def get(proxy, path: str = "/") -> tuple[http.client.HTTPResponse, bytes]:
    client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=20)
    client.request("GET", path)
    response = client.getresponse()
    return response, response.read()


def test_a_url_has_an_origin_of_its_own(proxy_factory, origin_factory):
    origins = [origin_factory(OK), origin_factory(OK)]
    proxy = proxy_factory(edge(*(origin.address for origin in origins)))
    for path in [f"/{number}" for number in range(20)] * 2:
        get(proxy, path)
    paths = [{head.split()[1] for head in origin.heads} for origin in origins]
    assert not paths[0] & paths[1]
    assert all(paths)


def test_what_the_origin_says_of_caching_passes(proxy_factory, origin_factory):
    response, _ = get(proxy_factory(edge(origin_factory(FIXED).address)), "/app.0123abcd.js")
    assert response.getheader("cache-control") == "max-age=60, immutable"
    assert (response.getheader("etag"), response.getheader("age")) == ('"a"', "7")


@pytest.mark.parametrize(("path", "expected"), [("/app.0123abcd.js?x=1", IMMUTABLE), ("/index.html", None)])
def test_a_hashed_name_may_be_kept_for_ever(proxy_factory, origin_factory, path, expected):
    response, _ = get(proxy_factory(edge(origin_factory(OK).address)), path)
    assert response.getheader("cache-control") == expected


@pytest.mark.parametrize("is_down", [True, False], ids=["down", "503"])
def test_the_standby_answers_if_the_origin_fails_and_an_event_says_so(proxy_factory, origin_factory, is_down, caplog):
    origins = [nobody(), nobody()] if is_down else [origin_factory(BUSY).address for _ in range(2)]
    proxy = proxy_factory(edge(*origins, standby=(origin_factory(OLD).address,)))
    response, body = get(proxy, "/a")
    assert (response.status, body, response.getheader("x-served-by")) == (200, b"old", "standby")
    (event,) = [json.loads(record.message) for record in caplog.records if record.name == "pingora.edge"]
    assert event == {
        "event": "origin_failed",
        "path": "/a",
        "reason": "connect_failed" if is_down else "upstream_status",
    }


def test_without_a_standby_another_origin_answers(proxy_factory, origin_factory):
    proxy = proxy_factory(edge(nobody(), origin_factory(OK).address))
    assert [get(proxy, f"/{number}")[0].status for number in range(10)] == [200] * 10
