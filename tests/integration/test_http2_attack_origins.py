"""What an origin has of clients of HTTP/2 whose requests are reset: a connection's streams at most, none at the end."""

import contextlib
import select
import threading

import pytest
from conversations import proxy_to, wait_until
from h2_upstream import To
from http2_attacks import RESETS
from http2_frames import FrameClient
from hyperframe.frame import HeadersFrame, RstStreamFrame, SettingsFrame

STREAMS = 128  # the default of Limits.http2_streams
BATCH = 100
SESSIONS_MOST = 400  # that one connection may begin before it ends at a limit
EITHER = pytest.mark.parametrize("attack", RESETS, ids=lambda attack: attack.__name__)


class InFlight:
    """Counts the requests that an origin has."""

    def __init__(self):
        self.total = self.most = 0
        self.requests = set()
        self.lock = threading.Lock()

    def add(self, request):
        with self.lock:
            self.total += 1
            self.requests.add(request)
            self.most = max(self.most, self.count())

    def remove(self, request):
        with self.lock:
            self.requests.discard(request)

    def count(self):
        return len(self.requests)


class InFlightOverSockets(InFlight):
    """Its requests are sockets: one that the proxy has closed counts no more, whoever has noticed."""

    def count(self):
        ended = select.poll()
        for request in self.requests:
            ended.register(request, select.POLLIN)
        return len(self.requests) - len(ended.poll(0))


def attack_in_batches(proxy, in_flight, attack):
    """Let many requests reach the origin, then end them and begin as many more in one write, as long as possible."""
    with FrameClient(proxy) as client:
        begun = []
        first = 1
        while client.is_alive():
            wait_until(lambda: len(in_flight.requests) == proxy.serving.counters["pingora_requests_active"])
            ids = range(first, first + 2 * BATCH, 2)
            client.send(*[attack.ending(i) for i in begun], *[attack.head(client, i) for i in ids])
            begun, first = ids, first + 2 * BATCH
        assert client.is_closed()
    wait_until(lambda: proxy.serving.counters["pingora_requests_active"] == 0)
    wait_until(lambda: not in_flight.requests)
    assert BATCH <= in_flight.most <= STREAMS
    assert in_flight.total < SESSIONS_MOST


@EITHER
def test_requests_at_an_origin_are_no_more_than_the_streams_of_a_connection(proxy_factory, origin_factory, attack):
    in_flight = InFlightOverSockets()

    def silent(connection, _data):
        in_flight.add(connection)
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass
        in_flight.remove(connection)

    attack_in_batches(proxy_factory(proxy_to(origin_factory(silent).address)), in_flight, attack)


@EITHER
def test_streams_at_an_origin_of_http_2_are_no_more_than_those_of_a_connection(proxy_factory, h2_origin, attack):
    in_flight = InFlight()

    def silent(peer, _number):
        peer.preface()
        peer.next(SettingsFrame)
        peer.send(SettingsFrame(0), SettingsFrame(0, flags=["ACK"]))
        with contextlib.suppress(OSError):
            while frame := peer.frame():
                if isinstance(frame, HeadersFrame):
                    in_flight.add(frame.stream_id)
                elif isinstance(frame, RstStreamFrame):
                    in_flight.remove(frame.stream_id)

    origin = h2_origin.raw(silent)
    one = To(origin.address, max_h2_streams=1000, max_h2_connections=1)
    attack_in_batches(proxy_factory(one), in_flight, attack)
