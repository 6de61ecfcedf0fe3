"""Clients of HTTP/2 that ask for much and do not read, and what waits for them in this process."""

from conversations import wait_until
from http2_frames import GET, replaced
from hyperframe.frame import DataFrame, SettingsFrame, WindowUpdateFrame

from pingora_c.mem.buffer_pool import stats

WINDOW = SettingsFrame.INITIAL_WINDOW_SIZE
OPEN = {WINDOW: 2**31 - 1}
WIDE = WindowUpdateFrame(0, window_increment=2**30)
HELD_MOST = 3 << 19  # of bodies, by one connection


def held():
    now = stats()
    return now["lent_bytes"] + now["reserved_bytes"]


def ask(client, path, ids):
    client.send(*[client.head(replaced(GET, path=path), i) for i in ids])


def bodies(client, ids):
    """Read until all of these streams have ended, giving windows; their bodies."""
    got, left = {i: [] for i in ids}, set(ids)
    for frame in client.frames():
        if not isinstance(frame, DataFrame) or frame.stream_id not in left:
            continue
        got[frame.stream_id].append(frame.data)
        if "END_STREAM" in frame.flags:
            left.remove(frame.stream_id)
        if not left:
            break
        if frame.data:
            client.send(*[WindowUpdateFrame(i, window_increment=len(frame.data)) for i in (0, frame.stream_id)])
    assert not left
    return [b"".join(got[i]) for i in ids]


def wait_still(look):
    """Wait until `look()` gives the same, and not None, many times in a row."""
    seen = []

    def is_still():
        seen.append(look())
        return seen[-1] is not None and seen[-60:].count(seen[-1]) == 60

    wait_until(is_still)
