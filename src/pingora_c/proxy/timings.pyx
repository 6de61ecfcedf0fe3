"""Durations of a session, as hooks see them."""


class Timings:
    """How long the parts of a session took, in milliseconds; -1.0 for what has not happened.

    All but two count from the head's first byte: `head_ms` to its last, `first_byte_ms` to the answer's head,
    `total_ms` to the end, or to now. `connect_ms`: to a connection to the upstream; `hooks_ms`: inside the synchronous
    parts of hooks.
    """

    __slots__ = ("connect_ms", "first_byte_ms", "head_ms", "hooks_ms", "total_ms")

    def __init__(self, started_us, head_us, connect_at_us, connected_us, first_byte_us, ended_us, hooks_us):
        self.head_ms = (head_us - started_us) / 1000
        self.connect_ms = (connected_us - connect_at_us) / 1000 if connected_us >= connect_at_us > 0 else -1.0
        self.first_byte_ms = (first_byte_us - started_us) / 1000 if first_byte_us else -1.0
        self.total_ms = (ended_us - started_us) / 1000
        self.hooks_ms = hooks_us / 1000
