"""Encoding of response heads. Owns a table that is filled and copied from within one call."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.base.ascii cimport equals_nocase, put_decimal
from pingora_c.base.clock cimport DATE_SIZE, date_text
from pingora_c.http.field cimport (
    NAME_CONNECTION, NAME_CONTENT_LENGTH, NAME_DATE, NAME_HTTP2_SETTINGS, NAME_KEEP_ALIVE, NAME_OTHER,
    NAME_PROXY_CONNECTION, NAME_TE, NAME_TRANSFER_ENCODING, NAME_UPGRADE, Field, known_text,
)
from pingora_c.http.header_block cimport HeaderBlock, block_field, block_may_hold, is_live
from pingora_c.lib.nghttp2 cimport NGHTTP2_NV_FLAG_NO_COPY_NAME, NGHTTP2_NV_FLAG_NONE, nghttp2_nv

cdef enum:
    ROWS = 1003              # BLOCK_FIELDS_MAX, and :status, date, content-length
    KEPT = NGHTTP2_NV_FLAG_NO_COPY_NAME

# RFC 9113 §8.2.2; Content-Length is written anew.
cdef uint64_t SKIPPED = (
    (<uint64_t>1 << <int>NAME_CONNECTION) | (<uint64_t>1 << <int>NAME_KEEP_ALIVE)
    | (<uint64_t>1 << <int>NAME_PROXY_CONNECTION) | (<uint64_t>1 << <int>NAME_TRANSFER_ENCODING)
    | (<uint64_t>1 << <int>NAME_CONTENT_LENGTH) | (<uint64_t>1 << <int>NAME_TE) | (<uint64_t>1 << <int>NAME_UPGRADE)
    | (<uint64_t>1 << <int>NAME_HTTP2_SETTINGS)
)
cdef nghttp2_nv[ROWS] rows
cdef char[8] status_text
cdef char[24] length_text


cdef inline void put_row(size_t n, const char* name, size_t name_size, const char* value, size_t value_size,
                         uint8_t flags) noexcept:
    """A row. KEPT: the name is a constant in lower case, which nghttp2 neither copies nor looks through."""
    rows[n].name = <uint8_t*>name
    rows[n].namelen = name_size
    rows[n].value = <uint8_t*>value
    rows[n].valuelen = value_size
    rows[n].flags = flags


cdef size_t put_status(uint16_t status) noexcept:
    put_row(0, b":status", 7, status_text, <size_t>(put_decimal(status_text, status) - status_text), KEPT)
    return 1


cdef size_t put_fields(size_t n, const HeaderBlock* block, bint is_tunnel) noexcept:
    cdef const Field* field
    cdef uint32_t i
    for i in range(block.n):
        field = block_field(block, i)
        if not is_live(field) or (SKIPPED >> field.known) & 1:
            continue
        if is_tunnel and field.known == NAME_OTHER and field.name_size == 20 and equals_nocase(
                block.base + field.name_at, b"sec-websocket-accept", 20):
            continue     # of the handshake that HTTP/2 does without
        if field.known == NAME_OTHER:
            put_row(n, block.base + field.name_at, field.name_size, block.base + field.value_at, field.value_size,
                    NGHTTP2_NV_FLAG_NONE)
        else:
            put_row(n, known_text(field.known), field.name_size, block.base + field.value_at, field.value_size, KEPT)
        n += 1
    return n


cdef int submit_answer(
    H2Session session, H2Stream* stream, ResponseHead head, int64_t length, bint has_body, bint is_tunnel,
) noexcept:
    cdef size_t n = put_fields(put_status(200 if is_tunnel else head.status_code), &head.block, is_tunnel)
    if length >= 0:
        put_row(n, b"content-length", 14, length_text,
                <size_t>(put_decimal(length_text, <uint64_t>length) - length_text), KEPT)
        n += 1
    if not block_may_hold(&head.block, NAME_DATE):
        put_row(n, b"date", 4, date_text(), DATE_SIZE, KEPT)
        n += 1
    return session.submit_head(stream, rows, n, has_body)


cdef int submit_interim_answer(H2Session session, H2Stream* stream, ResponseHead head) noexcept:
    cdef size_t n = put_fields(put_status(head.status_code), &head.block, False)
    return session.submit_interim(stream, rows, n)
