"""The field section of a message while it is decoded: bytes and a table of offsets, as a HeaderBlock wants them.

One section at a time is on its way on a connection (RFC 9113 §4.3), so a session has one. It is bounded before anything
is kept: each field is charged its name, its value and 32 bytes (RFC 9113 §10.5.1), cookie crumbs like any other.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from pingora_c.base.span cimport Span
from pingora_c.http.field cimport Field

cdef enum:
    SECTION_FIELDS_MAX = 256       # room of the table
    SECTION_BYTES_MAX = 65536      # room of the bytes

cdef struct FieldSection:
    char* bytes              # owned, pooled; NULL while no section is decoded
    Field* fields            # owned, pooled
    uint32_t cap
    uint32_t fields_cap
    uint32_t used            # bytes
    uint32_t n               # fields, pseudo fields left out
    uint32_t charged         # by all fields so far, also by those that were not kept
    uint16_t status          # :status, 0: there is none, so in a client it is a trailer section
    uint8_t is_over          # past a limit: nothing more is kept
    uint8_t lacks_memory
    Span method              # pseudo fields of a request, size 0: absent
    Span scheme
    Span authority
    Span path
    Span protocol            # of an extended CONNECT (RFC 8441)

# Begin an empty section, dropping what there was; 0, -1 without memory.
cdef int section_begin(FieldSection* section) noexcept nogil
# One more field. Past `head_bytes` or `fields` it is counted but not kept, and `is_over` is set. The name of a field is
# in lower case and both are valid: nghttp2 looks.
cdef void section_add(
    FieldSection* section, const char* name, size_t name_size, const char* value, size_t value_size,
    uint32_t head_bytes, uint32_t fields,
) noexcept nogil
cdef void section_free(FieldSection* section) noexcept nogil
