"""Sessions beside the library h2, both ways, and against frames that no honest peer sends."""

import h2.config
import h2.connection
import h2.events
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from pingora_c.h2.probe import Probe
from pingora_c.h2.session import CODE_NAMES

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
POST = [(b":method", b"POST"), *GET[1:]]
OK = [(b":status", b"200"), (b"x-a", b"1")]
ENHANCE_YOUR_CALM = CODE_NAMES.index("ENHANCE_YOUR_CALM")
REFUSED_STREAM = CODE_NAMES.index("REFUSED_STREAM")
PROTOCOL_ERROR = CODE_NAMES.index("PROTOCOL_ERROR")


def peer_of(is_client):
    peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=is_client, header_encoding=False))
    peer.initiate_connection()
    return peer


def exchange(probe, peer, step=None):
    """Carry bytes both ways until neither side has any; return the peer's events."""
    events = []
    while True:
        to_peer, to_probe = probe.drain(), peer.data_to_send()
        if not to_peer and not to_probe:
            return events
        events += peer.receive_data(to_peer) if to_peer else []
        for at in range(0, len(to_probe), step or max(1, len(to_probe))):
            assert probe.feed(to_probe[at : at + (step or len(to_probe))])


def client_that_met_its_server(**limits):
    probe, peer = Probe(False, **limits), peer_of(is_client=False)
    exchange(probe, peer)
    return probe, peer


@pytest.mark.parametrize("step", [None, 1, 7], ids=["whole", "byte by byte", "in sevens"])
def test_a_client_hears_interim_head_head_body_and_trailers_of_an_answer(step):
    probe, peer = client_that_met_its_server()
    stream = probe.request(GET)
    events = exchange(probe, peer, step)
    assert [type(event).__name__ for event in events] == ["RequestReceived", "StreamEnded"]
    assert list(events[0].headers) == GET
    peer.send_headers(stream, [(b":status", b"103"), (b"link", b"</a>")])
    peer.send_headers(stream, OK)
    peer.send_data(stream, b"hello")
    peer.send_headers(stream, [(b"x-t", b"end")], end_stream=True)
    exchange(probe, peer, step)
    body = b"".join(event[2] for event in probe.events if event[0] == "data")
    assert body == b"hello"
    assert [event for event in probe.events if event[0] != "data"] == [
        ("settings",),
        ("fields", stream, [(b":status", b"103"), (b"link", b"</a>")], False),
        ("fields", stream, OK, False),
        ("fields", stream, [(b"x-t", b"end")], True),
        ("closed", stream, 0),
    ]


@pytest.mark.parametrize("step", [None, 1], ids=["whole", "byte by byte"])
def test_a_server_hears_a_request_and_its_answer_arrives(step):
    probe, peer = Probe(True), peer_of(is_client=True)
    peer.send_headers(1, [*POST, (b"cookie", b"a=1"), (b"cookie", b"b=2")])
    peer.send_data(1, b"body", end_stream=True)
    exchange(probe, peer, step)
    assert ("fields", 1, [*POST, (b"cookie", b"a=1"), (b"cookie", b"b=2")], False) in probe.events
    assert ("end", 1) in probe.events
    probe.inform(1, [(b":status", b"100")])
    probe.respond(1, OK, True)
    probe.send(1, b"answer")
    probe.end(1)
    events = exchange(probe, peer, step)
    assert [type(event).__name__ for event in events if not isinstance(event, h2.events.RemoteSettingsChanged)][
        -4:
    ] == [
        "InformationalResponseReceived",
        "ResponseReceived",
        "DataReceived",
        "StreamEnded",
    ]
    assert ("closed", 1, 0) in probe.events


def test_a_body_waits_for_the_windows_and_all_of_it_arrives():
    probe, peer = client_that_met_its_server()
    stream = probe.request(POST, True)
    body = bytes(range(256)) * 1024
    probe.send(stream, body)
    probe.end(stream)
    received = bytearray()
    most = 0
    while len(received) < len(body):
        most = max(most, probe.waiting(stream))
        for event in exchange(probe, peer):
            if isinstance(event, h2.events.DataReceived):
                received += event.data
                peer.acknowledge_received_data(event.flow_controlled_length, stream)
    assert bytes(received) == body
    assert 0 < most <= len(body) - 65535


def test_what_is_not_consumed_stops_the_stream_but_not_its_neighbour():
    probe, peer = client_that_met_its_server(window=65536)
    probe.holds = True
    first, second = probe.request(GET), probe.request(GET)
    exchange(probe, peer)
    for stream in (first, second):
        peer.send_headers(stream, OK)
    for _ in range(4):
        peer.send_data(first, b"x" * 16384)
    exchange(probe, peer)
    assert peer.local_flow_control_window(first) == 0
    assert peer.local_flow_control_window(second) == 65536
    probe.give_back(first, 65536)
    exchange(probe, peer)
    assert peer.local_flow_control_window(first) == 65536


def test_output_stops_where_the_connection_has_no_room_and_goes_on_later():
    probe, peer = client_that_met_its_server()
    stream = probe.request(POST, True)
    exchange(probe, peer)
    probe.room = 1000
    probe.send(stream, b"x" * 60000)
    first = probe.drain()
    assert 1000 <= len(first) < 20000
    rest = b""
    while part := probe.drain():
        rest += part
    received = sum(len(e.data) for e in peer.receive_data(first + rest) if isinstance(e, h2.events.DataReceived))
    assert received == 60000


def test_goaway_closes_the_streams_that_will_not_be_served():
    probe, peer = client_that_met_its_server()
    streams = [probe.request(GET) for _ in range(3)]
    exchange(probe, peer)
    probe.feed(GoAwayFrame(0, last_stream_id=streams[0], error_code=0).serialize())
    assert set(probe.events[-3:]) == {
        ("goaway", 0),
        ("closed", streams[1], REFUSED_STREAM),
        ("closed", streams[2], REFUSED_STREAM),
    }
    assert not probe.state["may_open"]
    assert probe.request(GET) is None


def test_a_section_past_its_limit_is_refused_and_the_connection_lives():
    probe, peer = client_that_met_its_server(head_bytes=1000)
    stream = probe.request(GET)
    exchange(probe, peer)
    peer.send_headers(stream, [*OK, (b"x-long", b"y" * 2000)], end_stream=True)
    exchange(probe, peer)
    assert ("refused", stream) in probe.events
    other = probe.request(GET)
    exchange(probe, peer)
    peer.send_headers(other, OK, end_stream=True)
    exchange(probe, peer)
    assert ("fields", other, OK, True) in probe.events


def test_more_fields_than_the_limit_are_refused_cookie_crumbs_included():
    probe, peer = Probe(True, fields=8, head_bytes=16384), peer_of(is_client=True)
    peer.send_headers(1, [*GET, *[(b"cookie", b"a=%d" % i) for i in range(9)]], end_stream=True)
    exchange(probe, peer)
    assert ("refused", 1) in probe.events


def frames(*made):
    return b"".join(frame.serialize() for frame in made)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = SettingsFrame(0)
OPENING = HeadersFrame(1, data=b"\x88", flags=["END_HEADERS"])  # :status 200
BOMB = b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 3000  # one entry of the table, then 3,000 references

# what a server sends to a client with one request open, and whether the guard is what ends the connection
ATTACKS = {
    "pings": (frames(*[PingFrame(0)] * 300), True),
    "settings": (frames(*[SettingsFrame(0)] * 300), True),
    "window updates": (frames(*[WindowUpdateFrame(0, window_increment=1)] * 200), True),
    "unknown frames": (b"\x00\x00\x00\xee\x00\x00\x00\x00\x00" * 300, True),
    "empty data": (frames(OPENING, *[DataFrame(1)] * 20), True),
    "bomb": (frames(HeadersFrame(1, data=b"\x88" + BOMB, flags=["END_HEADERS"])), True),
    "continuations": (
        frames(HeadersFrame(1, data=b"\x88"), *[ContinuationFrame(1, data=b"\x00\x01a\x01b")] * 20),
        True,
    ),
    "zero increment": (frames(WindowUpdateFrame(0, window_increment=0)), False),
    "window overflow": (frames(*[WindowUpdateFrame(0, window_increment=2**31 - 1)] * 2), False),
    "too large a frame": (b"\x01\x00\x00\x00\x00\x00\x00\x00\x01" + bytes(65536), False),
    "data on stream 0": (b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x", False),
    "push promise": (b"\x00\x00\x05\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02\x88", True),
    "no such stream": (frames(HeadersFrame(7, data=b"\x88", flags=["END_HEADERS"])), False),
    "http/1": (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", False),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_server_ends_the_connection(name):
    attack, is_guarded = ATTACKS[name]
    probe = Probe(False)
    probe.request(GET)
    probe.drain()
    is_up = True
    if name != "http/1":
        is_up = probe.feed(frames(SETTINGS))
    is_up = probe.feed(attack) and is_up
    sent = probe.drain()
    assert not is_up or probe.state["is_over"]
    assert probe.state["is_guarded"] == is_guarded
    assert probe.state["goaway_code"] in ((ENHANCE_YOUR_CALM, PROTOCOL_ERROR) if is_guarded else range(1, 14))
    assert len(sent) < 16384


# what a server says in an answer that is malformed
MALFORMED = {
    "upper case": b"\x88\x00\x01A\x01b",
    "connection": b"\x88\x00\x0aconnection\x05close",
    "no status": b"\x00\x01a\x01b",
    "status twice": b"\x88\x88",
    "line feed in a value": b"\x88\x00\x01a\x03b\nc",
    "nul in a name": b"\x88\x00\x02a\x00\x01b",
    "late pseudo field": b"\x00\x01a\x01b\x88",
    "request pseudo field": b"\x88\x84",
    "status 1000": b"\x08\x041000",
    "length twice": b"\x88\x0f\x0d\x011\x0f\x0d\x012",
}


def ended_alone(probe, stream):
    """True if a malformed message ended its stream; False if it ended the connection, as with nghttp2 1.68."""
    if probe.state["is_over"]:
        assert probe.state["goaway_code"] == PROTOCOL_ERROR
        return False
    assert ("closed", stream, PROTOCOL_ERROR) in probe.events
    return True


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_answer_is_not_passed_on_and_ends_its_stream_or_all(name):
    probe = Probe(False)
    stream, other = probe.request(GET), probe.request(GET)
    probe.drain()
    assert probe.feed(frames(SETTINGS, HeadersFrame(stream, data=MALFORMED[name], flags=["END_HEADERS"])))
    probe.drain()
    assert not [event for event in probe.events if event[0] == "fields"]
    if ended_alone(probe, stream):
        assert probe.feed(frames(HeadersFrame(other, data=b"\x88", flags=["END_HEADERS", "END_STREAM"])))
        assert ("fields", other, OK[:1], True) in probe.events


def test_data_that_contradicts_content_length_ends_the_stream_or_all():
    probe = Probe(False)
    stream = probe.request(GET)
    probe.drain()
    head = HeadersFrame(stream, data=b"\x88\x0f\x0d\x013", flags=["END_HEADERS"])
    assert probe.feed(frames(SETTINGS, head, DataFrame(stream, data=b"ab", flags=["END_STREAM"])))
    probe.drain()
    assert ("end", stream) not in probe.events
    ended_alone(probe, stream)


def test_tokens_come_back_with_time():
    probe = Probe(False)
    probe.feed(frames(SETTINGS))
    for turn in range(50):
        probe.set_now(1000 + 1000 * turn)
        assert probe.feed(frames(*[PingFrame(0)] * 10))
        assert len(probe.drain()) >= 170


def test_data_pays_for_pings_and_window_updates():
    probe = Probe(False)
    stream = probe.request(GET)
    probe.drain()
    assert probe.feed(frames(SETTINGS, HeadersFrame(stream, data=b"\x88", flags=["END_HEADERS"])))
    for _ in range(1000):
        assert probe.feed(frames(DataFrame(stream, data=b"x"), PingFrame(0)))
        probe.drain()


def test_a_reset_stream_is_heard_of_no_more():
    probe, peer = client_that_met_its_server()
    stream = probe.request(POST, True)
    probe.send(stream, b"x" * 10000)
    exchange(probe, peer)
    probe.cancel(stream)
    assert any(isinstance(event, h2.events.StreamReset) for event in exchange(probe, peer))
    peer.clear_outbound_data_buffer()
    n_events = len(probe.events)
    probe.feed(frames(DataFrame(stream, data=b"late"), RstStreamFrame(stream, error_code=0)))
    assert len(probe.events) == n_events


def test_two_sessions_agree_on_extended_connect():
    client, server = Probe(False), Probe(True)
    for _ in range(3):
        server.feed(client.drain())
        client.feed(server.drain())
    assert client.state["connects"]
    fields = [(b":method", b"CONNECT"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/c")]
    stream = client.request([*fields, (b":protocol", b"websocket")], True)
    server.feed(client.drain())
    assert server.events[-1] == ("fields", stream, [*fields, (b":protocol", b"websocket")], False)


def test_every_frame_type_byte_by_byte_gives_what_it_gives_whole():
    script = frames(
        SETTINGS,
        PingFrame(0),
        WindowUpdateFrame(0, window_increment=10),
        HeadersFrame(1, data=b"\x88\x00\x01a\x01b", flags=["END_HEADERS"]),
        DataFrame(1, data=b"abc", flags=["END_STREAM"]),
        GoAwayFrame(0, last_stream_id=1, error_code=0),
    )
    seen = []
    for step in (len(script), 1, 3):
        probe = Probe(False)
        probe.request(GET)
        probe.drain()
        for at in range(0, len(script), step):
            assert probe.feed(script[at : at + step])
        body = b"".join(event[2] for event in probe.events if event[0] == "data")
        seen.append(([event for event in probe.events if event[0] != "data"], body))
    assert seen[0] == seen[1] == seen[2]


def test_what_is_no_preface_is_no_flood():
    probe = Probe(True)
    assert not probe.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    probe.drain()
    assert (probe.state["goaway_code"], probe.state["is_guarded"]) == (PROTOCOL_ERROR, False)
