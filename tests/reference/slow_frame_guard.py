"""Slow reference of the frame guard: a whole stream of frames, and no time passes.

What frames cost and how many of a kind may come is written down in docs/http2.md; the numbers are GuardProbe's.
"""

DATA, HEADERS, PRIORITY, PUSH_PROMISE, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 5, 8, 9
PROTOCOL_ERROR, ENHANCE_YOUR_CALM = 1, 11
PREFACE_SIZE = 24
EMPTY_DATA, CONTINUATIONS, UPDATES, SECTION_BYTES, PRIORITIES = 10, 8, 100, 65536, 6


class Refused(Exception):
    """The connection ends with `code`."""

    def __init__(self, code: int):
        self.code = code


class Purse:
    """Tokens that frames cost and bring."""

    def __init__(self, burst: int):
        self.burst = self.tokens = burst

    def earn(self) -> None:
        self.tokens = min(self.burst, self.tokens + 1)

    def pay(self) -> None:
        if self.tokens == 0:
            raise Refused(ENHANCE_YOUR_CALM)
        self.tokens -= 1


def stream_of(field: bytes) -> int:
    return int.from_bytes(field, "big") & 0x7FFFFFFF


def judge_priority(stream: int, payload: bytes, size: int) -> None:
    if stream == 0 or (size >= 4 and len(payload) >= 4 and stream_of(payload[:4]) == stream):
        raise Refused(PROTOCOL_ERROR)


def read(data: bytes, is_server: bool, burst: int) -> tuple[int, list[int]]:
    """Return the code that the connection ends with, 0 for none, and the streams of DATA frames that a server shows."""
    purse, shown = Purse(burst), []
    empty = continuations = updates = section = 0
    priorities = PRIORITIES
    at = PREFACE_SIZE if is_server else 0
    try:
        while at + 9 <= len(data):
            size, kind, flags = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 4]
            stream = stream_of(data[at + 5 : at + 9])
            payload = data[at + 9 : at + 9 + size]
            at += 9 + size
            if kind == DATA:
                if is_server and stream:
                    shown.append(stream)
                if is_server and flags & 8 and not flags & 1:
                    continue  # padded: what is in it is not known before it was read
                if size or flags & 1:
                    empty = 0
                    purse.earn()
                    continue
                empty += 1
                if empty > EMPTY_DATA:
                    raise Refused(ENHANCE_YOUR_CALM)
                purse.pay()
            elif kind == HEADERS:
                continuations = 0
                section = size
                priorities = min(PRIORITIES, priorities + 2)
                updates = max(0, updates - 2)
                if section > SECTION_BYTES:
                    raise Refused(ENHANCE_YOUR_CALM)
                if not is_server:
                    purse.earn()
            elif kind == CONTINUATION:
                continuations += 1
                section += size
                if continuations > CONTINUATIONS or section > SECTION_BYTES:
                    raise Refused(ENHANCE_YOUR_CALM)
            elif kind == WINDOW_UPDATE:
                updates += 1
                if updates > UPDATES:
                    raise Refused(ENHANCE_YOUR_CALM)
            elif kind == PUSH_PROMISE:
                raise Refused(PROTOCOL_ERROR)
            else:
                if kind == PRIORITY:
                    priorities -= 1
                    if priorities < 0:
                        raise Refused(ENHANCE_YOUR_CALM)
                purse.pay()
                if kind == PRIORITY:
                    judge_priority(stream, payload, size)
    except Refused as refused:
        return refused.code, shown
    return 0, shown
