"""Trailers. Own their block; nothing here knows how they came or how they leave."""
cimport cython

from libc.string cimport memchr
from pingora_c.base.ascii cimport equals_nocase
from pingora_c.http.field cimport (
    NAME_AUTHORIZATION, NAME_CACHE_CONTROL, NAME_CONNECTION, NAME_CONTENT_ENCODING, NAME_CONTENT_LENGTH,
    NAME_CONTENT_TYPE, NAME_COOKIE, NAME_DATE, NAME_EXPECT, NAME_FORWARDED, NAME_HOST, NAME_HTTP2_SETTINGS,
    NAME_KEEP_ALIVE, NAME_LOCATION, NAME_MAX_FORWARDS, NAME_OTHER, NAME_PROXY_AUTHENTICATE, NAME_PROXY_AUTHORIZATION,
    NAME_PROXY_CONNECTION, NAME_SET_COOKIE, NAME_TE, NAME_TRAILER, NAME_TRANSFER_ENCODING, NAME_UPGRADE,
    NAME_X_FORWARDED_FOR, NAME_X_FORWARDED_HOST, NAME_X_FORWARDED_PORT, NAME_X_FORWARDED_PROTO, NAME_X_REAL_IP,
    is_forwarding_name, recognise,
)
from pingora_c.http.header_block cimport (
    BLOCK_OK, block_field, block_free, block_init, block_load, remove_row,
)
from pingora_c.http.header_map cimport HeaderMap

cdef enum:
    UNDERSCORE = 0x5f

cdef tuple KNOWN_FORBIDDEN = (
    NAME_AUTHORIZATION, NAME_CACHE_CONTROL, NAME_CONNECTION, NAME_CONTENT_ENCODING, NAME_CONTENT_LENGTH,
    NAME_CONTENT_TYPE, NAME_COOKIE, NAME_DATE, NAME_EXPECT, NAME_FORWARDED, NAME_HOST, NAME_HTTP2_SETTINGS,
    NAME_KEEP_ALIVE, NAME_LOCATION, NAME_MAX_FORWARDS, NAME_PROXY_AUTHENTICATE, NAME_PROXY_AUTHORIZATION,
    NAME_PROXY_CONNECTION, NAME_SET_COOKIE, NAME_TE, NAME_TRAILER, NAME_TRANSFER_ENCODING, NAME_UPGRADE,
    NAME_X_FORWARDED_FOR, NAME_X_FORWARDED_HOST, NAME_X_FORWARDED_PORT, NAME_X_FORWARDED_PROTO, NAME_X_REAL_IP,
)
cdef tuple OTHER_FORBIDDEN = (
    b"age", b"client-cert", b"client-cert-chain", b"content-range", b"expires", b"if-match", b"if-modified-since",
    b"if-none-match", b"if-range", b"if-unmodified-since", b"pragma", b"range", b"retry-after", b"vary", b"warning",
    b"www-authenticate",
)


cdef bint is_forbidden(const char* name, uint32_t size, int known) except -1:
    cdef bytes other, folded
    if memchr(name, UNDERSCORE, size) != NULL:      # receivers that read `_` as `-`, as CGI does, would merge it
        folded = name[:size].replace(b"_", b"-")
        return is_forbidden(folded, size, recognise(folded, size))
    if known != NAME_OTHER:
        return known in KNOWN_FORBIDDEN
    if is_forwarding_name(name, size):
        return True
    for other in OTHER_FORBIDDEN:
        if len(other) == size and equals_nocase(name, other, size):
            return True
    return False


@cython.final
cdef class Trailers:
    """Trailer fields, as `headers`."""

    def __cinit__(self):
        block_init(&self.block)

    def __dealloc__(self):
        block_free(&self.block)

    @staticmethod
    cdef Trailers of(const char* data, uint32_t size, const Field* fields, uint32_t n):
        cdef Trailers trailers = Trailers.__new__(Trailers)
        cdef uint32_t i
        cdef Field* field
        if block_load(&trailers.block, data, size, fields, n) != BLOCK_OK:
            raise MemoryError("no buffer for trailers")
        for i in range(n):
            field = block_field(&trailers.block, i)
            if is_forbidden(trailers.block.base + field.name_at, field.name_size, field.known):
                remove_row(&trailers.block, i)
        return trailers

    @property
    def headers(self):
        """The fields as a HeaderMap; editing it edits the trailers."""
        return HeaderMap.over(self, &self.block)
