"""Downloads at the same time over HTTP/1: none gets much more than another (F35)."""

import contextlib
import selectors
import socket

from conversations import Forwarding

N_CLIENTS = 16
PART = bytes(1 << 18)
ENOUGH = 16 << 20  # bytes for each


def endless(connection, data):
    connection.settimeout(None)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 10**15)
    while True:  # until the proxy closes
        connection.sendall(PART)


def test_downloads_of_one_worker_share_it(proxy_factory, origin_factory):
    proxy = proxy_factory(Forwarding(origin_factory(endless).address))
    with contextlib.ExitStack() as open_clients, selectors.DefaultSelector() as readable:
        got = {}
        for _ in range(N_CLIENTS):
            client = open_clients.enter_context(proxy.connect(30))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(1, socket.MSG_PEEK)
            readable.register(client, selectors.EVENT_READ)
            got[client] = 0
        while sum(got.values()) < N_CLIENTS * ENOUGH:
            for key, _ in readable.select(30):
                n = len(key.fileobj.recv(1 << 18))
                assert n
                got[key.fileobj] += n
        assert max(got.values()) < 4 * min(got.values()), sorted(got.values())
