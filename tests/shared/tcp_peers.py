"""Servers of any protocol behind a TcpProxy, and what tests of it ask and count."""

import contextlib
import fcntl
import socket
import struct
import termios
import threading

import pytest
from conversations import wait_until

from pingora import LoadBalancer, TcpProxy
from pingora.testing import read_all


class Peer:
    """A server that runs `script` for each connection in a thread of its own."""

    def __init__(self, script, family=socket.AF_INET, address=("127.0.0.1", 0)):
        self.listener = socket.socket(family)
        self.listener.bind(address)
        self.listener.listen(64)
        name = self.listener.getsockname()
        self.port = name[1] if family == socket.AF_INET else None
        self.address = f"127.0.0.1:{self.port}" if self.port else f"unix:{name}"
        self.script = script
        self.n_connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.n_connections += 1
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            self.script(connection)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def told(name):
    """A script that says its name and then what it got."""

    def script(connection):
        connection.sendall(name + b":" + read_all(connection))

    return script


@pytest.fixture
def peer_factory():
    running = []

    def start(script, **options):
        running.append(Peer(script, **options))
        return running[-1]

    yield start
    for peer in running:
        peer.close()


def to(*addresses, **options):
    proxy = TcpProxy()
    proxy.upstreams = LoadBalancer(list(addresses), **options)
    return proxy


def refusing_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def talk(proxy, data):
    """Send, end our side and read to the end; the proxy may have closed before."""
    with proxy.connect(10) as client, contextlib.suppress(OSError):
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)
    return b""


def counted(proxy, name):
    return proxy.serving.counters[name]


def failures(proxy, reason):
    return counted(proxy, f'pingora_failures_total{{reason="{reason}"}}')


def is_over(proxy):
    """Wait for the end of all sessions, with nothing left of them."""
    wait_until(lambda: counted(proxy, "pingora_tcp_sessions_active") == 0)
    wait_until(lambda: counted(proxy, "pingora_connections_open") == 0)


def unsent(connection):
    """Count the bytes that the kernel has and the other end has not taken."""
    return struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
