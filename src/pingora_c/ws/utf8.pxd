"""UTF-8 as RFC 3629 has it: no overlong form, no surrogate, nothing beyond U+10FFFF."""
from libc.stddef cimport size_t

cdef bint is_utf8(const char* data, size_t size) noexcept nogil
