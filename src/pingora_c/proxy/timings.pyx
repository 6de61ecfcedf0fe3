"""Timings. Data only."""
cimport cython

from pingora_c.base.properties cimport read_by_table


@cython.final
cdef class Timings:
    """How long the parts of a session took, in milliseconds; -1.0 for what has not happened.

    All but two count from the head's first byte: `head_ms` to its last, `first_byte_ms` to the answer's head,
    `total_ms` to the end, or to now. `connect_ms`: to a connection to the upstream; `hooks_ms`: inside the synchronous
    parts of hooks. Made by the core.
    """

    @staticmethod
    cdef Timings of(const Moments* moments):
        cdef Timings made = Timings.__new__(Timings)
        made.head_ms = (moments.head_us - moments.started_us) / 1000.0
        made.connect_ms = made.first_byte_ms = -1.0
        if moments.connected_us >= moments.connect_at_us > 0:
            made.connect_ms = (moments.connected_us - moments.connect_at_us) / 1000.0
        if moments.first_byte_us:
            made.first_byte_ms = (moments.first_byte_us - moments.started_us) / 1000.0
        made.total_ms = (moments.ended_us - moments.started_us) / 1000.0
        made.hooks_ms = moments.hooks_us / 1000.0
        return made

    def __repr__(self):
        return (f"<Timings head {self.head_ms:.1f} ms, connect {self.connect_ms:.1f} ms, first byte "
                f"{self.first_byte_ms:.1f} ms, total {self.total_ms:.1f} ms, hooks {self.hooks_ms:.1f} ms>")


read_by_table(Timings)
