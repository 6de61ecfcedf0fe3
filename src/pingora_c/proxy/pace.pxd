"""How fast the bodies of one stream move, measured over stretches of a limit: for streams that share a connection and
so have no timer of their own.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

cdef struct Pace:
    uint64_t seen_ms         # when a part of the client's body came last, or was asked for
    uint64_t came_bytes      # of it since came_at_ms
    uint64_t came_at_ms      # start of the present stretch
    uint64_t active_ms       # when something moved last, either way
    uint64_t moved_bytes     # to the client, so far
    uint64_t moved_before    # at the start of the present stretch
    uint64_t moved_at_ms     # start of the present stretch

cdef enum Stall:
    STALL_NONE = 0
    STALL_SLOW           # some moved, fewer than the rate wants
    STALL_WHOLE          # none moved

cdef void pace_begin(Pace* pace, uint64_t now_ms) noexcept nogil
# Body bytes came from the client.
cdef void pace_came(Pace* pace, size_t size, uint64_t now_ms) noexcept nogil
# Bytes went to the client.
cdef void pace_moved(Pace* pace, size_t size, uint64_t now_ms) noexcept nogil
# Bytes are taken again after a pause, which does not count.
cdef void pace_asked(Pace* pace, uint64_t now_ms) noexcept nogil
# So much of the time until now does not count: the client could send nothing.
cdef void pace_waited(Pace* pace, uint64_t waited_ms, uint64_t now_ms) noexcept nogil
# Since `limit_ms` at least fewer than `rate` bytes per second came. Ends the stretch.
cdef bint came_too_slowly(Pace* pace, uint64_t now_ms, uint64_t limit_ms, uint64_t rate) noexcept nogil
# The same for bytes to the client; `waits`: there are some that only its window holds back.
cdef Stall stalls(Pace* pace, uint64_t now_ms, uint64_t limit_ms, uint64_t rate, bint waits) noexcept nogil
# Nothing moved, either way, for `limit_ms`.
cdef bint is_still(const Pace* pace, uint64_t now_ms, uint64_t limit_ms) noexcept nogil
