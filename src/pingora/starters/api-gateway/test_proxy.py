"""What the gateway promises, over real sockets. Fixtures are those of pingora's pytest plugin."""

import http.client

import pytest
from proxy import Gateway

KEYS = {"alice": "secret-of-alice"}


@pytest.fixture
def gateway(proxy_factory, origin_factory):
    """Run a gateway before an origin that echoes the head of each request; give a function that asks."""

    def echo(connection, request):
        body = request.partition(b"\r\n\r\n")[0]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    proxy = proxy_factory(Gateway(KEYS, {"/users/": [origin_factory(echo).address]}))

    def ask(path, key=None):
        client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=20)
        client.request("GET", path, headers={} if key is None else {"X-Api-Key": key})
        response = client.getresponse()
        return response.status, response.read().decode().lower()

    return ask


@pytest.mark.parametrize("key", [None, "", "wrong", "secret-of-alic", "s\xe9cret"])
def test_a_request_without_a_known_key_is_refused(gateway, key):
    assert gateway("/users/1", key)[0] == 401


def test_a_path_without_a_service_is_refused(gateway):
    assert gateway("/else", "secret-of-alice")[0] == 404


def test_the_service_learns_who_asks_and_not_the_key(gateway):
    status, head = gateway("/users/1", "secret-of-alice")
    assert status == 200
    assert head.startswith("get /users/1 ")
    assert "x-consumer: alice" in head
    assert "secret" not in head
