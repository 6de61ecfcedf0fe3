"""The value of Max-Forwards. Owns nothing; who answers or forwards is decided elsewhere."""
from libc.stdint cimport uint32_t

from pingora_c.base.ascii cimport is_digit
from pingora_c.h1.verdict cimport BAD_MAX_FORWARDS
from pingora_c.http.field cimport NAME_MAX_FORWARDS, Field
from pingora_c.http.header_block cimport block_field, block_find_known

cdef enum:
    DIGITS_MAX = 18      # what int64_t holds of any digits


cdef int64_t max_forwards(const HeaderBlock* block) noexcept nogil:
    cdef Py_ssize_t row = block_find_known(block, NAME_MAX_FORWARDS, 0)
    cdef int64_t value = 0
    cdef const Field* field
    cdef const char* text
    cdef uint32_t i
    if row < 0:
        return HOPS_UNLIMITED
    field = block_field(block, <uint32_t>row)
    text = block.base + field.value_at
    if not 0 < field.value_size <= DIGITS_MAX or block_find_known(block, NAME_MAX_FORWARDS, <uint32_t>row + 1) >= 0:
        return BAD_MAX_FORWARDS
    for i in range(field.value_size):
        if not is_digit(text[i]):
            return BAD_MAX_FORWARDS
        value = value * 10 + (text[i] - 0x30)
    return value
