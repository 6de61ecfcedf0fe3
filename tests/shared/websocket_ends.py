"""WebSocket clients and origins of the `websockets` library, around a proxy."""

import contextlib
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from pingora import LoadBalancer, ProxyHttp


def echo(connection):
    for message in connection:
        connection.send(message)


class Ends:
    """How the origin's connections ended: a list of (code, reason), and a way to wait for the next one."""

    def __init__(self):
        self.seen = []
        self.changed = threading.Semaphore(0)

    def wait(self):
        assert self.changed.acquire(timeout=10), "the origin's connection did not end"
        return self.seen.pop(0)


@contextlib.contextmanager
def origins():
    """Start WebSocket origins: `start(handler, **options)` gives an address and the ends of its connections."""
    with contextlib.ExitStack() as stack:

        def start(handler, **options):
            ends = Ends()

            def handle(connection):
                try:
                    handler(connection)
                    with contextlib.suppress(ConnectionClosed):
                        connection.recv(timeout=10)
                except ConnectionClosed:
                    pass
                ends.seen.append((connection.close_code, connection.close_reason))
                ends.changed.release()

            options = {"max_size": None} | options
            server = stack.enter_context(serve(handle, "127.0.0.1", 0, **options))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"127.0.0.1:{server.socket.getsockname()[1]}", ends

        yield start


def proxy_before(proxy_factory, address, kind=ProxyHttp, limits=None):
    """Start a proxy of class `kind` before one origin."""
    proxy = kind()
    proxy.upstreams = LoadBalancer([address])
    return proxy_factory(proxy, limits)


def client_of(proxy, path="/", **options):
    """Connect a client to a RunningProxy."""
    options = {"max_size": None} | options
    return connect(f"ws://{proxy.address}{path}", sock=proxy.connect(), **options)
