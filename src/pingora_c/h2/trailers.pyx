"""Trailers of what is sent. Own nothing."""
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t
from pingora_c.http.field cimport Field
from pingora_c.http.header_block cimport block_field, is_live
from pingora_c.lib.nghttp2 cimport NGHTTP2_NV_FLAG_NONE, nghttp2_nv, nghttp2_session, nghttp2_submit_trailer

cdef enum:
    TRAILERS_MAX = 256

cdef nghttp2_nv[TRAILERS_MAX] trailer_fields


cdef int submit_trailers(nghttp2_session* of, int32_t stream_id, const HeaderBlock* block) noexcept:
    cdef uint32_t i
    cdef size_t n = 0
    cdef const Field* field
    for i in range(block.n):
        field = block_field(block, i)
        if is_live(field) and n < TRAILERS_MAX:
            trailer_fields[n].name = <uint8_t*>block.base + field.name_at
            trailer_fields[n].namelen = field.name_size
            trailer_fields[n].value = <uint8_t*>block.base + field.value_at
            trailer_fields[n].valuelen = field.value_size
            trailer_fields[n].flags = NGHTTP2_NV_FLAG_NONE
            n += 1
    return nghttp2_submit_trailer(of, stream_id, trailer_fields, n) if n else -1
