"""Comma-separated lists of RFC 9110 §5.6.1, cut in place. Inline: they run for each framing field of a head."""
from libc.string cimport memchr

cdef inline bint is_gap(char c) noexcept nogil:
    return c == 0x20 or c == 0x09


cdef inline bint next_member(
    const char* text, size_t size, size_t* at, size_t* start, size_t* member_size,
) noexcept nogil:
    """Cut the next member from `at` on, white space around it left out; False behind the last. Empty ones count."""
    cdef const char* comma
    cdef size_t end
    if at[0] > size:
        return False
    comma = <const char*>memchr(text + at[0], 0x2c, size - at[0])
    end = <size_t>(comma - text) if comma != NULL else size
    start[0] = at[0]
    at[0] = end + 1
    while start[0] < end and is_gap(text[start[0]]):
        start[0] += 1
    while end > start[0] and is_gap(text[end - 1]):
        end -= 1
    member_size[0] = end - start[0]
    return True
