"""Monotonic time for timers and durations; wall-clock text for the Date field."""
from libc.stdint cimport uint64_t
from pingora_c.lib.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef enum:
    DATE_SIZE = 29   # bytes of an IMF-fixdate, RFC 9110 §5.6.7

cdef inline uint64_t now_us() noexcept nogil:
    """Microseconds of CLOCK_MONOTONIC."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000 + <uint64_t>now.tv_nsec // 1000

# "Tue, 24 Nov 2026 19:40:37 GMT": DATE_SIZE bytes without a final NUL, made anew once a second. Good until the next
# call.
cdef const char* date_text() noexcept nogil
