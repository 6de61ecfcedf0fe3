"""Limits of HTTP/2 server connections. Own nothing, end nothing: whoever asks does."""
from libc.string cimport memset
from pingora_c.h2.guard cimport GuardLimits
from pingora_c.h2.section cimport SECTION_BYTES_MAX
from pingora_c.proxy.failure cimport (
    CLIENT_READS_SLOWLY, CLIENT_STALLED, CLIENT_TIMEOUT, CLIENT_TOO_SLOW, OK, TUNNEL_TIMEOUT,
)
from pingora_c.proxy.pace cimport STALL_NONE, STALL_WHOLE, came_too_slowly, is_still, pace_waited, stalls

cdef enum:
    SWEEP_LEAST_MS = 10
    SWEEP_MOST_MS = 1000
    CONNECTION_WINDOW = 1048576
    UNREAD = 393216            # with a whole window on its way 1.4 MiB of bodies wait, in less than 2 MiB of buffers
    STREAMS = 128              # where the limit says only that plain connections have none
    RESETS_PER_SECOND = 33


cdef void session_limits(H2Limits* made, const ServerLimits* limits) noexcept nogil:
    memset(made, 0, sizeof(H2Limits))
    made.head_bytes = limits.head_bytes
    made.fields = limits.fields
    made.window = limits.http2_window
    made.connection_window = max(<uint32_t>CONNECTION_WINDOW, limits.http2_window)
    made.unread = max(<uint32_t>UNREAD, limits.http2_window)     # or one stream could shut it
    made.streams = limits.http2_streams if limits.http2_streams else STREAMS
    made.connects = True
    made.resets = limits.http2_resets
    made.resets_per_second = RESETS_PER_SECOND
    made.guard = GuardLimits(
        burst=1000, per_second=100, empty_data=10, continuations=8, section_bytes=SECTION_BYTES_MAX,
        priorities=100 + 2 * limits.http2_streams, updates=100 + 2 * limits.http2_streams, updates_per_data=10,
        earns_by_head=False,
    )


cdef uint32_t sweep_ms(const ServerLimits* limits) noexcept nogil:
    cdef uint32_t least = min(min(limits.body_ms, limits.write_ms), min(limits.tunnel_ms, limits.head_ms)) // 4
    return min(max(least, <uint32_t>SWEEP_LEAST_MS), <uint32_t>SWEEP_MOST_MS)


cdef int overdue(H2ServerStream stream, const ServerLimits* limits, uint64_t before_ms, uint64_t now_ms,
                 bint is_blocked) noexcept:
    cdef bint waits = stream.h2.out.size > 0 and not is_blocked
    cdef bint is_shut
    cdef int stall
    stall = stalls(&stream.pace, now_ms, limits.write_ms, limits.write_rate, waits)
    if stall != STALL_NONE:
        return CLIENT_STALLED if stall == STALL_WHOLE else CLIENT_READS_SLOWLY
    if stream.is_tunnel:
        return TUNNEL_TIMEOUT if is_still(&stream.pace, now_ms, limits.tunnel_ms) else OK
    if stream.owner is None or stream.body_done or stream.body_paused or stream.waiting.size:
        return OK
    is_shut = stream.server.session.is_shut()
    if is_shut:              # it may have no window
        pace_waited(&stream.pace, now_ms - before_ms, now_ms)
    if is_shut or stream.is_call:    # whose client sends when it has something to say
        return CLIENT_TIMEOUT if is_still(&stream.pace, now_ms, limits.tunnel_ms) else OK
    if now_ms - stream.pace.seen_ms >= limits.body_ms:
        return CLIENT_TIMEOUT
    return CLIENT_TOO_SLOW if came_too_slowly(&stream.pace, now_ms, limits.body_ms, limits.body_rate) else OK
