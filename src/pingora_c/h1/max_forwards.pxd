"""Max-Forwards (RFC 9110 §7.6.2): how far an OPTIONS request may go. For other methods it means nothing."""
from libc.stdint cimport int64_t
from pingora_c.http.header_block cimport HeaderBlock

cdef enum:
    HOPS_UNLIMITED = -1

# The value, HOPS_UNLIMITED without the field, or BAD_MAX_FORWARDS: not 1*DIGIT of at most 18 digits, or repeated.
cdef int64_t max_forwards(const HeaderBlock* block) noexcept nogil
