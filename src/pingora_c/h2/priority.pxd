"""Priorities that a client gives before the request (RFC 9218 §7.1): they go before the request's own field.

nghttp2 takes both as they come, so that the request's would win; and where it is told to pass that over, it passes over
all that the client says of the stream later. So what comes early is kept here, and what comes later set from here.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t
from pingora_c.lib.nghttp2 cimport nghttp2_ext_priority_update, nghttp2_extpri, nghttp2_session

cdef enum:
    EARLY_MAX = 16           # streams; beyond them the oldest is forgotten, and its request's own field counts

cdef struct EarlyPriority:
    int32_t stream_id        # 0: none
    nghttp2_extpri given

cdef struct EarlyPriorities:
    EarlyPriority[16] kept
    uint32_t n               # streams, <= EARLY_MAX
    uint32_t next            # where the next goes, < EARLY_MAX

# Read a priority field (RFC 9218 §4: a dictionary of RFC 9651). False: it is none, to be passed over as a whole.
cdef bint read_priority(const uint8_t* value, size_t size, nghttp2_extpri* read) noexcept nogil
# A PRIORITY_UPDATE came, for a stream that `is_early`, has not begun, or for another.
cdef void priority_came(
    EarlyPriorities* early, nghttp2_session* session, const nghttp2_ext_priority_update* update, bint is_early,
) noexcept
# The head of a stream came, and nghttp2 has not looked at its field yet: what was kept counts in place of that.
cdef void apply_early(EarlyPriorities* early, nghttp2_session* session, int32_t stream_id) noexcept
