"""Per-byte helpers for ASCII text. Inline: they run once per byte."""
from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from pingora_c.lib.ascii cimport PG_LOWER, PG_TOKEN

cdef inline bint is_token(const char* text, size_t size) noexcept nogil:
    """True if `text` is a non-empty RFC 9110 token."""
    cdef size_t i
    if size == 0:
        return False
    for i in range(size):
        if not PG_TOKEN[<unsigned char>text[i]]:
            return False
    return True

cdef inline bint equals_nocase(const char* a, const char* b, size_t size) noexcept nogil:
    """True if `a` and `b`, both `size` bytes, are equal but for ASCII case."""
    cdef size_t i
    for i in range(size):
        if PG_LOWER[<unsigned char>a[i]] != PG_LOWER[<unsigned char>b[i]]:
            return False
    return True

cdef inline bint is_digit(char c) noexcept nogil:
    return 48 <= c <= 57

cdef inline char* put_decimal(char* out, uint64_t number) noexcept nogil:
    """Write `number` in decimal, at most 20 bytes; return where it ended."""
    cdef char digits[20]
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = <char>(48 + number % 10)
        number //= 10
        if number == 0:
            break
    memcpy(out, digits + at, 20 - at)
    return out + 20 - at
