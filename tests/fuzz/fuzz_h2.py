"""Fuzz target: what a peer of HTTP/2 sends, in any cuts, and what our own side does meanwhile.

An input is a script of tests/reference/h2_script.py. The frame guard judges as its slow reference. A session sees
the same whether frames come whole or in pieces, keeps its limits, and says only what is in the form of HTTP/2.
"""

import sys

import atheris
import h2_script
import slow_frame_guard
from guarded import Guarded

from pingora_c.h2.probe import GuardProbe, Probe
from pingora_c.http.trailers import Trailers

MEMORY = Guarded(65536)
OK = [(b":status", b"200"), (b"x-a", b"b")]
FRAME_MOST = 16384


class Side:
    """Our side of a conversation; `cut` is the size of the pieces that come."""

    def __init__(self, flags, cut):
        self.is_server = bool(flags & 1)
        small = {"window": 100, "head_bytes": 256, "fields": 6, "streams": 3} if flags & 4 else {}
        self.limits = {"head_bytes": 16384, "fields": 128} | small
        self.probe = Probe(self.is_server, burst=20, **small)
        self.probe.holds = bool(flags & 2)
        if flags & 8:
            self.probe.room = 200
        self.cut, self.now_ms = cut, 1000
        self.is_over = False
        self.states = {}  # of each stream: what our side has said
        self.said = [self.probe.drain()]

    def receive(self, data):
        step = self.cut or len(data) or 1
        for at in range(0, len(data), step):
            self.is_over = self.is_over or not self.probe.feed(data[at : at + step])
            if self.is_over:
                return

    def act(self, name, stream, argument):
        state = self.states.setdefault(stream, set())
        is_open = stream in self.probe.open_streams
        if name.startswith("respond") and self.is_server and is_open and not state:
            has_body = name != "respond"
            state |= {"head"} if has_body else {"head", "end"}
            self.probe.respond(stream, OK, has_body)
        elif name == "inform" and self.is_server and is_open and not state:
            self.probe.inform(stream, [(b":status", b"103")])
        elif name == "send" and is_open and "head" in state and "end" not in state:
            self.probe.send(stream, b"d" * (argument * 97))
        elif name.startswith("end") and is_open and "head" in state and "end" not in state:
            state.add("end")
            trailers = Trailers() if name != "end" else None
            if trailers:
                trailers.headers.add("x-t", "u")
            self.probe.end(stream, trailers)
        elif name == "give back" and is_open:
            self.probe.give_back(stream, argument)
        elif name == "cancel" and is_open:
            self.probe.cancel(stream, argument % 14)
        elif name.startswith("request") and not self.is_server:
            made = self.probe.request(h2_script.REQUEST, name != "request")
            self.states[made] = {"head"} if name != "request" else {"head", "end"}
        elif name in ("ping", "goaway", "announce", "terminate"):
            self.probe.say(name, argument % 14)
        elif name == "wait":
            self.now_ms += argument * 100
            self.probe.set_now(self.now_ms)
        elif name == "drain":
            self.said.append(self.probe.drain())

    def outcome(self):
        """Everything that can be seen of it; DATA may come in any portions.

        How much of it comes before a stream or a connection is given up depends on the cut: nghttp2 holds each piece
        against Content-Length.
        """
        events = []
        broken = {event[1] for event in self.probe.events if event[0] == "closed" and event[2]}
        is_broken = self.is_over or self.probe.state["goaway_code"]
        for event in self.probe.events:
            if event[0] == "data" and (is_broken or event[1] in broken):
                continue
            if event[0] == "data" and events and events[-1][:2] == event[:2]:
                events[-1] = (*event[:2], events[-1][2] + event[2])
            else:
                events.append(event)
        return events, b"".join(self.said), self.is_over, self.probe.state, sorted(self.probe.open_streams)


def converse(script, cut):
    """Have the conversation, and return its outcome."""
    side = Side(script[0], cut)
    if side.is_server:
        side.receive(h2_script.PREFACE)
    for step in h2_script.steps(script):
        if step[0] == "act":
            side.act(*step[1:])
        elif not side.is_over:
            side.receive(step[1])
    side.said.append(side.probe.drain())
    check_events(side)
    check_frames(b"".join(side.said), side.is_server)
    return side.outcome()


def check_events(side):
    for event in side.probe.events:
        if event[0] != "fields":
            continue
        fields = [field for field in event[2] if not field[0].startswith(b":")]
        charged = sum(len(name) + len(value) + 32 for name, value in event[2])
        assert len(fields) <= side.limits["fields"], event
        assert charged <= side.limits["head_bytes"], event
        assert all(name == name.lower() and b"\r" not in value and b"\n" not in value for name, value in fields), event


def check_frames(data, is_server):
    """Whole frames of known types, none larger than the peer takes."""
    at = 0 if is_server else len(h2_script.PREFACE)
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 3], "big"), data[at + 3]
        assert size <= FRAME_MOST, size
        assert kind in (0, 1, 3, 4, 6, 7, 8, 9), kind
        at += 9 + size
    assert at == len(data), (at, len(data))


def check_guard(data, is_server, cut):
    expected = slow_frame_guard.read(data, is_server, 20)
    for step in (len(data) or 1, cut, 1):
        guard = GuardProbe(is_server, burst=20)
        code = 0
        for at in range(0, len(data), step):
            code = code or guard.read(MEMORY.at_end(data[at : at + step]))
        assert (code, guard.shown) == expected, (code, guard.shown, expected, step)


def test_one_input(data):
    if len(data) < 3:
        return
    cut = 1 + data[1] % 32
    sent = b"".join(step[1] for step in h2_script.steps(data) if step[0] == "bytes")[:60000]
    is_server = bool(data[0] & 1)
    check_guard((h2_script.PREFACE if is_server else b"") + sent, is_server, cut)
    whole, pieces = converse(data, 0), converse(data, cut)
    assert whole == pieces, (whole, pieces)


atheris.Setup(sys.argv, test_one_input)
atheris.Fuzz()
