"""Requests as fields. Owns one table and one text, used by one call at a time."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, strlen

from pingora_c.base.ascii cimport equals_nocase, put_decimal
from pingora_c.h1.encode cimport FRAME_LENGTH, Skips, is_left_out, put_added, put_target, request_room, request_skips
from pingora_c.http.field cimport NAME_HOST, NAME_OTHER, Field, known_text, recognise
from pingora_c.http.header_block cimport HeaderBlock, block_field, block_find_known, is_live
from pingora_c.lib.nghttp2 cimport (
    NGHTTP2_NV_FLAG_NO_COPY_NAME, NGHTTP2_NV_FLAG_NO_COPY_VALUE, NGHTTP2_NV_FLAG_NONE,
)

cdef enum:
    TABLE_SIZE = 1100        # rows of a block at most, and what is added
    KEPT = NGHTTP2_NV_FLAG_NO_COPY_NAME
    ALL_KEPT = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE
    COLON = 58
    LINE_END = 13

cdef nghttp2_nv[TABLE_SIZE] table
cdef char* text = NULL       # owned
cdef size_t text_room = 0


cdef inline void add(RequestFields* made, const char* name, size_t name_size, const char* value, size_t value_size,
                     uint8_t flags) noexcept:
    """A row. KEPT: the name is a constant in lower case, which nghttp2 neither copies nor looks through."""
    cdef nghttp2_nv* row = &table[made.n]
    row.name = <uint8_t*>name
    row.namelen = name_size
    row.value = <uint8_t*>value
    row.valuelen = value_size
    row.flags = flags
    made.n += 1


cdef bint make_room(size_t size) noexcept:
    global text, text_room
    if text_room < size:
        free(text)
        text_room = size if size > 16384 else 16384
        text = <char*>malloc(text_room)
        if text == NULL:
            text_room = 0
    return text != NULL


cdef void add_lines(RequestFields* made, const char* line, const char* end) noexcept:
    """What put_added wrote: "Name: value" and CRLF, by our own hand; its names are known ones."""
    cdef const char* colon
    cdef const char* stop
    while line < end and made.n < TABLE_SIZE:
        colon = <const char*>memchr(line, COLON, end - line)
        stop = <const char*>memchr(colon, LINE_END, end - colon)
        add(made, known_text(recognise(line, colon - line)), colon - line, colon + 2, stop - colon - 2, KEPT)
        line = stop + 2


cdef bint is_key(const char* name, size_t size) noexcept nogil:
    """Of WebSocket's handshake over HTTP/1.1, which HTTP/2 does without (RFC 8441 §5)."""
    return size == 17 and equals_nocase(name, b"sec-websocket-key", 17)


cdef bint add_block(
    RequestFields* made, const HeaderBlock* block, const Skips* skips, bint drop_key,
) noexcept:
    cdef Field* field
    cdef uint32_t i
    for i in range(block.n):
        field = block_field(block, i)
        if not is_live(field) or is_left_out(block, field, skips):
            continue
        if drop_key and is_key(block.base + field.name_at, field.name_size):
            continue
        if made.n == TABLE_SIZE:
            return False
        if field.known == NAME_OTHER:
            add(made, block.base + field.name_at, field.name_size, block.base + field.value_at, field.value_size,
                NGHTTP2_NV_FLAG_NONE)
        else:
            add(made, known_text(field.known), field.name_size, block.base + field.value_at, field.value_size, KEPT)
    return True


cdef int request_fields(
    RequestHead head, const Outgoing* how, bint is_secure, const char* protocol, RequestFields* made,
) noexcept:
    cdef int64_t hops = 0
    cdef Skips skips = request_skips(head, how, &hops)
    cdef Py_ssize_t row = block_find_known(&head.block, NAME_HOST, 0)
    cdef Field* host
    cdef char* out
    cdef char* start
    skips.known |= <uint64_t>1 << <int>NAME_HOST
    made.fields = table
    made.n = 0
    if not make_room(request_room(head)):
        return -1
    out = put_target(text, head)
    if protocol != NULL:
        add(made, b":method", 7, b"CONNECT", 7, ALL_KEPT)
        add(made, b":protocol", 9, protocol, strlen(protocol), KEPT)
    else:
        add(made, b":method", 7, head.block.base + head.method.at, head.method.size, KEPT)
    add(made, b":scheme", 7, b"https", 5 if is_secure else 4, ALL_KEPT)
    if row >= 0:
        host = block_field(&head.block, <uint32_t>row)
        add(made, b":authority", 10, head.block.base + host.value_at, host.value_size, KEPT)
    elif how.host != NULL:
        add(made, b":authority", 10, how.host, how.host_size, KEPT)
    add(made, b":path", 5, text, out - text, KEPT)
    if not add_block(made, &head.block, &skips, protocol != NULL) or made.n + 8 > TABLE_SIZE:
        return -1
    start = out
    out = put_added(out, head, how, hops)
    add_lines(made, start, out)
    if how.framing == FRAME_LENGTH:
        start = out
        out = put_decimal(out, how.length)
        add(made, b"content-length", 14, start, out - start, KEPT)
    if how.takes_trailers:
        add(made, b"te", 2, b"trailers", 8, ALL_KEPT)
    return 0
