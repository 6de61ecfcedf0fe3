"""Which streams are served first (RFC 9218): urgency, `i`, PRIORITY_UPDATE.

The window of the connection is shut until all answers wait, then it is opened at once: the order that follows is the
proxy's choice.
"""

import struct
from itertools import groupby

import pytest
from conversations import Forwarding
from http2_frames import GET, FrameClient
from hyperframe.frame import DataFrame, ExtensionFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame

from pingora import Response

SIZE = 50_000  # four frames
FILLER = 65_535  # the window of a connection


class Answering(Forwarding):
    def request_filter(self, session, ctx):
        return Response(200, {}, b"x" * (FILLER if "x-filler" in session.request.headers else SIZE))


def priority_update(stream_id, value):
    frame = ExtensionFrame(type=0x10, stream_id=0, body=struct.pack(">I", stream_id) + value.encode())
    frame.body_len = len(frame.body)  # which hyperframe sets only for what it has read
    return frame


@pytest.fixture
def serve(proxy_factory):
    """Give a function that asks on streams 3, 5, … with these priorities; the streams of the DATA that comes.

    It sends `early` before the requests, and `updates` when all answers wait.
    """

    def order(*priorities, early=(), updates=()):
        proxy = proxy_factory(Answering("127.0.0.1:1"))
        with FrameClient(proxy, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 2**20}) as client:
            client.request([*GET, ("x-filler", "1")])
            assert len(client.answer(gives_window=False)["body"]) == FILLER
            client.send(*early)
            streams = range(3, 3 + 2 * len(priorities), 2)
            for stream, priority in zip(streams, priorities, strict=True):
                client.request([*GET, ("priority", priority)] if priority is not None else GET, stream)
            for _ in streams:
                client.until(lambda frame: isinstance(frame, HeadersFrame))
            client.send(*updates)
            assert client.is_alive()  # so the updates were read
            client.send(WindowUpdateFrame(0, window_increment=2**20))
            return served(client, len(priorities))

    return order


def served(client, n_streams):
    """Read all answers: the stream of each frame with content."""
    found = []
    for frame in client.frames():
        if isinstance(frame, DataFrame):
            found += [frame.stream_id] * bool(frame.data)
            n_streams -= "END_STREAM" in frame.flags
            if n_streams == 0:
                break
    return found


def one_by_one(order):
    return [stream for stream, _ in groupby(order)]


@pytest.mark.parametrize(
    ("priorities", "streams"),
    [
        pytest.param(["u=5", "u=1", "u=3"], [5, 7, 3], id="urgency"),
        pytest.param(["u=7", None, "u=0"], [7, 5, 3], id="3 is the default"),
        pytest.param(["u=2", "u=2", "u=2"], [3, 5, 7], id="the same urgency: as they were asked"),
        pytest.param(["u=9", "u=2", "nonsense("], [5, 3, 7], id="what is wrong is as if it was not there"),
        pytest.param(["u=4, i", "u=3", "u=5, i"], [5, 3, 7], id="urgency goes before i"),
    ],
)
def test_streams_are_served_one_by_one_in_their_order(serve, priorities, streams):
    assert one_by_one(serve(*priorities)) == streams


def test_incremental_streams_take_turns(serve):
    order = serve("u=3, i", "u=3, i")
    assert len(one_by_one(order)) > 3
    assert set(order[:2]) == {3, 5}


def test_incremental_streams_go_before_no_more_urgent_one(serve):
    order = serve("u=3, i", "u=3, i", "u=2")
    assert one_by_one(order)[0] == 7
    assert len(one_by_one(order)) > 4


@pytest.mark.parametrize(
    ("updates", "streams"),
    [
        ([(7, "u=0")], [7, 3, 5]),
        ([(3, "u=6"), (5, "u=5")], [7, 5, 3]),
        ([(3, "u=0"), (3, "u=7")], [5, 7, 3]),
    ],
)
def test_priority_update_changes_the_order_of_streams_that_run(serve, updates, streams):
    assert one_by_one(serve(None, None, None, updates=[priority_update(*update) for update in updates])) == streams


def test_priority_update_makes_streams_take_turns(serve):
    order = serve(None, None, updates=[priority_update(3, "i"), priority_update(5, "i")])
    assert len(one_by_one(order)) > 3


def test_priority_update_may_come_before_its_request(serve):
    assert one_by_one(serve(None, None, None, early=[priority_update(7, "u=0")])) == [7, 3, 5]


@pytest.mark.parametrize(
    ("early", "streams"),
    [
        pytest.param([(7, "u=0")], [7, 3, 5], id="it goes before the request's own field"),
        pytest.param([(7, "u=6"), (7, "u=0")], [7, 3, 5], id="the last one counts"),
        pytest.param([(7, "nonsense(")], [3, 5, 7], id="what is wrong is as if it was not there"),
        pytest.param([(7, "u=0"), *[(i, "i") for i in range(101, 131, 2)]], [7, 3, 5], id="sixteen are kept"),
        pytest.param([(7, "u=0"), *[(i, "i") for i in range(101, 133, 2)]], [3, 5, 7], id="beyond them the last"),
    ],
)
def test_priority_update_before_its_request(serve, early, streams):
    order = serve("u=1", "u=2", "u=7", early=[priority_update(*update) for update in early])
    assert one_by_one(order) == streams


def test_priority_update_counts_after_one_that_came_early(serve):
    order = serve("u=1", "u=2", "u=7", early=[priority_update(7, "u=0")], updates=[priority_update(7, "u=6")])
    assert one_by_one(order) == [3, 5, 7]


def test_an_update_of_no_stream_ends_the_connection(proxy_factory):
    with FrameClient(proxy_factory(Answering("127.0.0.1:1"))) as client:
        client.send(priority_update(0, "u=1"))
        assert client.goaway() == "PROTOCOL_ERROR"
