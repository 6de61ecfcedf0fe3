"""Requests, proxies and origins that several integration tests use."""

import time

from pingora import HttpPeer, LoadBalancer, ProxyHttp

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Forwarding(ProxyHttp):
    """Sends everything to one origin."""

    def __init__(self, address):
        self.peer = HttpPeer(address)

    def upstream_peer(self, session, ctx):
        return self.peer


def dechunk(answer):
    """Decode a chunked answer into its payload and its trailer lines."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower(), answer
    payload = b""
    while True:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        if size == 0:
            return payload, rest
        payload, rest = payload + rest[:size], rest[size + 2 :]


def more_of(connection, size=65536):
    """Receive up to `size` bytes, at least one; ConnectionError at the end, where a loop would wait for ever."""
    got = connection.recv(size)
    if not got:
        raise ConnectionError("the connection ended before all had come")
    return got


def echo(connection, data):
    """An origin that answers with the body of the request, decoded, and its framing in a header."""
    head, _, rest = data.partition(b"\r\n\r\n")
    framing = b"chunked" if b"chunked" in head.lower() else b"length"
    if framing == b"chunked":
        while not rest.endswith(b"0\r\n\r\n") and b"\r\n0\r\n" not in rest:
            rest += more_of(connection)
        payload, trailers = dechunk(head + b"\r\n\r\n" + rest)
    else:
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(rest) < size:
            rest += more_of(connection)
        payload, trailers = rest, b""
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nX-Framing: %s\r\nX-Trailers: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (framing, trailers.strip().replace(b"\r\n", b";"), len(payload), payload)
    )


def post(body, extra=b""):
    """Make a POST that ends its connection."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s" % (
        extra,
        len(body),
        body,
    )


def proxy_to(*addresses):
    """Make a proxy without hooks that balances over the addresses."""
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer(list(addresses))
    return proxy


def wait_until(is_true):
    """Wait for what other threads or processes bring about, and return it."""
    give_up = time.monotonic() + 30
    while not (result := is_true()):
        assert time.monotonic() < give_up, "did not happen within 30 s"
        time.sleep(0.005)
    return result
