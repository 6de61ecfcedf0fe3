"""Early priorities: a ring in a struct of the caller's, and a reader of the field's two members."""
from pingora_c.lib.nghttp2 cimport nghttp2_session_change_extpri_stream_priority

cdef enum:
    DEFAULT_URGENCY = 3


cdef size_t skip_space(const uint8_t* value, size_t at, size_t size) noexcept nogil:
    while at < size and (value[at] == b' ' or value[at] == b'\t'):
        at += 1
    return at


cdef size_t skip_member(const uint8_t* value, size_t at, size_t size) noexcept nogil:
    """The comma behind a member, or the end. Only strings have commas within."""
    cdef bint is_string = False
    while at < size and (is_string or value[at] != b','):
        if value[at] == b'"':
            is_string = not is_string
        elif value[at] == b'\\' and is_string:
            at += 1
        at += 1
    return min(at, size)


cdef bint is_of_key(uint8_t byte) noexcept nogil:
    return (b'a' <= byte <= b'z' or b'0' <= byte <= b'9' or byte == b'_' or byte == b'-' or byte == b'.'
            or byte == b'*')


cdef bint read_urgency(const uint8_t* value, size_t* at, size_t size, nghttp2_extpri* read) noexcept nogil:
    if at[0] + 1 >= size or value[at[0]] != b'=' or not b'0' <= value[at[0] + 1] <= b'7':
        return False
    read.urgency = value[at[0] + 1] - <uint8_t>b'0'
    at[0] += 2
    return True


cdef bint read_incremental(const uint8_t* value, size_t* at, size_t size, nghttp2_extpri* read) noexcept nogil:
    read.inc = 1
    if at[0] < size and value[at[0]] == b'=':
        if at[0] + 2 >= size or value[at[0] + 1] != b'?' or not b'0' <= value[at[0] + 2] <= b'1':
            return False
        read.inc = value[at[0] + 2] - <uint8_t>b'0'
        at[0] += 3
    return True


cdef bint read_member(const uint8_t* value, size_t* at, size_t size, nghttp2_extpri* read) noexcept nogil:
    cdef size_t begin = at[0]
    while at[0] < size and is_of_key(value[at[0]]):
        at[0] += 1
    if at[0] == begin + 1 and value[begin] == b'u':
        return read_urgency(value, at, size, read)
    if at[0] == begin + 1 and value[begin] == b'i':
        return read_incremental(value, at, size, read)
    at[0] = skip_member(value, at[0], size)      # says nothing that we know
    return at[0] > begin


cdef bint read_priority(const uint8_t* value, size_t size, nghttp2_extpri* read) noexcept nogil:
    cdef size_t at = skip_space(value, 0, size)
    read.urgency = DEFAULT_URGENCY
    read.inc = 0
    while at < size:
        if not read_member(value, &at, size, read):
            return False
        if at < size and value[at] == b';':
            at = skip_member(value, at, size)    # parameters
        at = skip_space(value, at, size)
        if at == size:
            break
        if value[at] != b',':
            return False
        at = skip_space(value, at + 1, size)
        if at == size:
            return False
    return True


cdef void keep(EarlyPriorities* early, int32_t stream_id, const nghttp2_extpri* given) noexcept nogil:
    cdef EarlyPriority* place = NULL
    cdef int i
    for i in range(EARLY_MAX):
        if early.kept[i].stream_id == stream_id:
            place = &early.kept[i]
    if place == NULL:
        place = &early.kept[early.next]
        early.next = (early.next + 1) % EARLY_MAX
        early.n += place.stream_id == 0
    place.stream_id = stream_id
    place.given = given[0]


cdef void priority_came(
    EarlyPriorities* early, nghttp2_session* session, const nghttp2_ext_priority_update* update, bint is_early,
) noexcept:
    cdef nghttp2_extpri given
    if not read_priority(update.field_value, update.field_value_len, &given):
        return
    if is_early:
        keep(early, update.stream_id, &given)
    else:      # nghttp2 passes it over where an early one counted
        nghttp2_session_change_extpri_stream_priority(session, update.stream_id, &given, False)


cdef void apply_early(EarlyPriorities* early, nghttp2_session* session, int32_t stream_id) noexcept:
    cdef int i
    if early.n == 0:
        return
    for i in range(EARLY_MAX):
        if early.kept[i].stream_id == stream_id:
            nghttp2_session_change_extpri_stream_priority(session, stream_id, &early.kept[i].given, True)
            early.kept[i].stream_id = 0
            early.n -= 1
            return
