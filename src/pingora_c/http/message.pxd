"""RequestHead and ResponseHead: the neutral heads that every protocol turns its own into (DESIGN rule 2).

Each owns its HeaderBlock; start-line parts are spans into the same bytes. Python sees these very objects
(`session.request`, `session.response`), and
a hook may keep them: they stay valid and unchanged by other sessions, because their memory goes back to the pool only
when they die or are detached.

The Python property `headers` makes a new HeaderMap over `block` at each look (about as cheap as finding a kept one):
the map counts a reference
to its head, so a head that kept its map would be a cycle that the collector, which visits neither, never frees.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from pingora_c.base.span cimport Span
from pingora_c.http.field cimport Field
from pingora_c.http.header_block cimport HeaderBlock
from pingora_c.http.header_map cimport HeaderMap

cdef enum:
    HTTP2_MINOR = 2           # `minor` of a head that came over HTTP/2

cdef enum Method:          # what the core itself tells apart; everything else is METHOD_OTHER
    METHOD_OTHER = 0
    METHOD_GET
    METHOD_HEAD
    METHOD_POST
    METHOD_PUT
    METHOD_DELETE
    METHOD_CONNECT
    METHOD_OPTIONS
    METHOD_TRACE
    METHOD_PATCH

cdef Method recognise_method(const char* text, size_t size) noexcept nogil   # case-sensitive, RFC 9110 §9.1
cdef bint is_idempotent(Method method) noexcept nogil                        # RFC 9110 §9.2.2


cdef class RequestHead:
    cdef HeaderBlock block
    cdef Span method          # into block.base
    cdef Span target          # as received or as a hook set it: origin, absolute, authority or asterisk form
    cdef uint8_t method_id    # Method
    cdef uint8_t minor        # HTTP/1.<minor> as received, or HTTP2_MINOR; 1 for a head made in Python

    @staticmethod
    cdef RequestHead new()
    # Fill from a parsed head, dropping what there was; offsets in `fields`, `method`, `target` count from `bytes`.
    # BLOCK_OK or BLOCK_NO_MEMORY.
    cdef int load(
        self, const char* bytes, uint32_t size, Span method, Span target, uint8_t minor, const Field* fields,
        uint32_t n,
    ) noexcept
    cdef RequestHead copy(self)        # None if there is no memory
    cdef HeaderMap fields(self)        # that Python edits the head with
    # see block_detach; called when the session ends and somebody still holds this head
    cdef int detach(self) noexcept


cdef class ResponseHead:
    cdef HeaderBlock block
    cdef Span reason          # empty: the writer uses the standard phrase
    cdef uint16_t status_code  # 100..599
    cdef uint8_t minor

    @staticmethod
    cdef ResponseHead new(uint16_t status)
    cdef int load(
        self, const char* bytes, uint32_t size, uint16_t status, Span reason, uint8_t minor, const Field* fields,
        uint32_t n,
    ) noexcept
    cdef ResponseHead copy(self)
    cdef int detach(self) noexcept
