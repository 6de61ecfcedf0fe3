"""The frame guard: arithmetic on a struct of the caller's."""
from libc.string cimport memcpy

cdef enum:
    FLAG_END_STREAM = 1
    FLAG_END_HEADERS = 4
    FLAG_PADDED = 8
    ID_SIZE = 4
    TOKEN = 1000
    UPDATES_MAX = 1000000000
    PRIORITIES_PER_HEAD = 2
    UPDATES_PER_HEAD = 2           # clients widen a stream's window as they open it
    PROTOCOL_ERROR = 1
    ENHANCE_YOUR_CALM = 11


cdef void earn(FrameGuard* guard, const GuardLimits* limits, uint64_t milli) noexcept nogil:
    guard.tokens_milli += milli
    if guard.tokens_milli > <uint64_t>limits.burst * TOKEN:
        guard.tokens_milli = <uint64_t>limits.burst * TOKEN


cdef bint pay(FrameGuard* guard, const GuardLimits* limits, uint64_t now_ms) noexcept nogil:
    if now_ms > guard.at_ms:
        earn(guard, limits, (now_ms - guard.at_ms) * limits.per_second)
        guard.at_ms = now_ms
    if guard.tokens_milli < TOKEN:
        return False
    guard.tokens_milli -= TOKEN
    return True


cdef void guard_begin(FrameGuard* guard, const GuardLimits* limits, bint is_server, uint64_t now_ms) noexcept nogil:
    guard.tokens_milli = <uint64_t>limits.burst * TOKEN
    guard.at_ms = now_ms
    guard.updates_left = limits.updates
    guard.priorities_left = limits.priorities
    guard.section_left = limits.section_bytes     # a CONTINUATION that comes first is for nghttp2 to refuse
    guard.n_empty = guard.n_continuations = guard.n_head = guard.n_compared = 0
    guard.skip = PREFACE_SIZE if is_server else 0
    guard.is_server = is_server
    guard.is_shown = False
    guard.heads_left = 0xFFFFFFFF


cdef uint32_t take_section_bytes(FrameGuard* guard, uint32_t size) noexcept nogil:
    if size > guard.section_left:
        return ENHANCE_YOUR_CALM
    guard.section_left -= size
    return 0


cdef uint32_t judge(
    FrameGuard* guard, const GuardLimits* limits, uint8_t type, uint8_t flags, uint32_t size, uint64_t now_ms,
) noexcept nogil:
    """0, or the code that one more frame ends the connection with."""
    guard.is_section = type == FRAME_HEADERS or type == FRAME_CONTINUATION
    guard.ends_section = flags & FLAG_END_HEADERS
    if type == FRAME_DATA and flags & FLAG_PADDED and guard.is_server and not flags & FLAG_END_STREAM:
        return 0       # guard_padded knows what is in it
    if type == FRAME_DATA and (size or flags & FLAG_END_STREAM):
        guard.n_empty = 0
        earn(guard, limits, TOKEN)
        return 0
    if type == FRAME_DATA:
        guard.n_empty += 1
        if guard.n_empty > limits.empty_data:
            return ENHANCE_YOUR_CALM
    elif type == FRAME_HEADERS:
        guard.n_continuations = 0
        guard.section_left = limits.section_bytes
        guard.priorities_left = min(guard.priorities_left + PRIORITIES_PER_HEAD, limits.priorities)
        if guard.updates_left < limits.updates:
            guard.updates_left = min(guard.updates_left + UPDATES_PER_HEAD, limits.updates)
        if limits.earns_by_head:
            earn(guard, limits, TOKEN)
        return take_section_bytes(guard, size)
    elif type == FRAME_CONTINUATION:
        guard.n_continuations += 1
        return ENHANCE_YOUR_CALM if guard.n_continuations > limits.continuations else take_section_bytes(guard, size)
    elif type == FRAME_PRIORITY:
        if guard.priorities_left == 0:
            return ENHANCE_YOUR_CALM
        guard.priorities_left -= 1
    elif type == FRAME_WINDOW_UPDATE:
        if guard.updates_left == 0:
            return ENHANCE_YOUR_CALM
        guard.updates_left -= 1
        return 0
    elif type == FRAME_PUSH_PROMISE:
        return PROTOCOL_ERROR      # a client's SETTINGS forbid it before there is a request to push for
    return 0 if pay(guard, limits, now_ms) else ENHANCE_YOUR_CALM


cdef uint32_t stream_of(const uint8_t* id) noexcept nogil:
    return <uint32_t>(id[0] & 127) << 24 | <uint32_t>id[1] << 16 | <uint32_t>id[2] << 8 | id[3]


# What RFC 7540 §5.3.1 and §6.3 refuse and nghttp2, which is told to ignore priorities, passes over.

cdef uint32_t judge_priority(FrameGuard* guard, const uint8_t* head, uint32_t size) noexcept nogil:
    if stream_of(head + 5) == 0:
        return PROTOCOL_ERROR
    if size >= ID_SIZE:
        guard.head[5] = head[5] & 127
        memcpy(guard.head + 6, head + 6, ID_SIZE - 1)
        guard.n_compared = ID_SIZE
    return 0


cdef uint32_t judge_dependency(FrameGuard* guard, const uint8_t* payload, size_t size) noexcept nogil:
    """A stream that depends on itself; the payload may come in pieces."""
    cdef uint8_t bits
    while size and guard.n_compared:
        bits = 127 if guard.n_compared == ID_SIZE else 255
        if (payload[0] & bits) != guard.head[FRAME_HEAD_SIZE - guard.n_compared]:
            guard.n_compared = 0
            return 0
        guard.n_compared -= 1
        if guard.n_compared == 0:
            return PROTOCOL_ERROR
        payload += 1
        size -= 1
    return 0


cdef uint32_t guard_read(
    FrameGuard* guard, const GuardLimits* limits, const char* data, size_t size, uint64_t now_ms, size_t* used,
    uint32_t* stream_id,
) noexcept nogil:
    cdef const uint8_t* head
    cdef size_t at = 0, part
    cdef uint32_t code, length
    used[0] = size
    stream_id[0] = 0
    while at < size:
        if guard.skip:
            part = guard.skip if guard.skip < size - at else size - at
            if guard.n_compared and judge_dependency(guard, <const uint8_t*>data + at, part):
                return PROTOCOL_ERROR
            guard.skip -= <uint32_t>part
            at += part
            continue
        if guard.n_head == 0 and size - at >= FRAME_HEAD_SIZE:
            head = <const uint8_t*>data + at
            part = FRAME_HEAD_SIZE
        else:
            part = FRAME_HEAD_SIZE - guard.n_head
            if part > size - at:
                part = size - at
            memcpy(guard.head + guard.n_head, data + at, part)
            if guard.n_head + part < FRAME_HEAD_SIZE:
                guard.n_head += <uint32_t>part
                return 0
            head = guard.head
        if head[3] == FRAME_DATA and guard.is_server and not guard.is_shown:
            guard.is_shown = True
            used[0] = at
            stream_id[0] = stream_of(head + 5)
            return 0
        if head[3] == FRAME_HEADERS and guard.is_server:
            if guard.heads_left == 0:
                used[0] = at
                return 0
            guard.heads_left -= 1
        guard.is_shown = False
        guard.n_head = 0
        at += part
        length = (<uint32_t>head[0] << 16) | (<uint32_t>head[1] << 8) | head[2]
        code = judge(guard, limits, head[3], head[4], length, now_ms)
        if code == 0 and head[3] == FRAME_PRIORITY:
            code = judge_priority(guard, head, length)
        if code:
            return code
        guard.skip = length
    return 0


cdef bint guard_in_section(const FrameGuard* guard) noexcept nogil:
    return guard.is_section and (guard.skip > 0 or not guard.ends_section)


cdef uint32_t guard_padded(
    FrameGuard* guard, const GuardLimits* limits, bint has_data, uint64_t now_ms,
) noexcept nogil:
    if has_data:
        guard.n_empty = 0
        earn(guard, limits, TOKEN)
        return 0
    guard.n_empty += 1
    return 0 if guard.n_empty <= limits.empty_data and pay(guard, limits, now_ms) else ENHANCE_YOUR_CALM


cdef void guard_sent_data(FrameGuard* guard, const GuardLimits* limits) noexcept nogil:
    earn(guard, limits, TOKEN)
    if guard.updates_left < UPDATES_MAX:
        guard.updates_left += limits.updates_per_data
