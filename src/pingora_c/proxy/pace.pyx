"""Arithmetic on a Pace of the caller's."""


cdef void pace_begin(Pace* pace, uint64_t now_ms) noexcept nogil:
    pace.seen_ms = pace.came_at_ms = pace.moved_at_ms = pace.active_ms = now_ms


cdef void pace_came(Pace* pace, size_t size, uint64_t now_ms) noexcept nogil:
    pace.seen_ms = pace.active_ms = now_ms
    pace.came_bytes += size


cdef void pace_moved(Pace* pace, size_t size, uint64_t now_ms) noexcept nogil:
    pace.active_ms = now_ms
    pace.moved_bytes += size


cdef void pace_asked(Pace* pace, uint64_t now_ms) noexcept nogil:
    pace.seen_ms = pace.came_at_ms = now_ms
    pace.came_bytes = 0


cdef void pace_waited(Pace* pace, uint64_t waited_ms, uint64_t now_ms) noexcept nogil:
    pace.seen_ms = min(pace.seen_ms + waited_ms, now_ms)
    pace.came_at_ms = min(pace.came_at_ms + waited_ms, now_ms)


cdef bint came_too_slowly(Pace* pace, uint64_t now_ms, uint64_t limit_ms, uint64_t rate) noexcept nogil:
    cdef uint64_t took_ms = now_ms - pace.came_at_ms
    cdef bint is_slow = pace.came_bytes * 1000 < rate * took_ms
    if took_ms < limit_ms:
        return False
    pace.came_at_ms = now_ms
    pace.came_bytes = 0
    return is_slow


cdef Stall stalls(Pace* pace, uint64_t now_ms, uint64_t limit_ms, uint64_t rate, bint waits) noexcept nogil:
    cdef uint64_t took_ms = now_ms - pace.moved_at_ms
    cdef uint64_t moved = pace.moved_bytes - pace.moved_before
    if waits and took_ms < limit_ms:
        return STALL_NONE
    pace.moved_before = pace.moved_bytes
    pace.moved_at_ms = now_ms
    if not waits:
        return STALL_NONE
    if moved == 0:
        return STALL_WHOLE
    return STALL_SLOW if moved * 1000 < rate * took_ms else STALL_NONE


cdef bint is_still(const Pace* pace, uint64_t now_ms, uint64_t limit_ms) noexcept nogil:
    return now_ms - pace.active_ms >= limit_ms
