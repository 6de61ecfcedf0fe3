"""Validation of UTF-8. Owns nothing."""
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef uint64_t HIGH_BITS = <uint64_t>0x8080808080808080


cdef size_t sequence_size(const uint8_t* at, size_t left) noexcept nogil:
    """Bytes of the sequence of several octets that begins at `at`, 0 if there is no valid one (RFC 3629 §4)."""
    cdef uint8_t lead = at[0]
    cdef uint8_t low = 0x80, high = 0xBF     # of the second octet
    cdef size_t size, i
    if lead < 0xC2 or lead > 0xF4:
        return 0
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if lead == 0xE0:
        low = 0xA0
    elif lead == 0xED:
        high = 0x9F
    elif lead == 0xF0:
        low = 0x90
    elif lead == 0xF4:
        high = 0x8F
    if left < size or at[1] < low or at[1] > high:
        return 0
    for i in range(2, size):
        if at[i] & 0xC0 != 0x80:
            return 0
    return size


cdef bint is_utf8(const char* data, size_t size) noexcept nogil:
    cdef const uint8_t* bytes_at = <const uint8_t*>data
    cdef size_t at = 0, part
    cdef uint64_t word
    while at < size:
        if size - at >= 8:
            memcpy(&word, data + at, 8)
            if word & HIGH_BITS == 0:
                at += 8
                continue
        if bytes_at[at] < 0x80:
            at += 1
            continue
        part = sequence_size(bytes_at + at, size - at)
        if part == 0:
            return False
        at += part
    return True


def is_valid(bytes data not None) -> bool:
    """Return whether `data` is UTF-8."""
    return bool(is_utf8(data, <size_t>len(data)))
