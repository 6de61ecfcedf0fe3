"""Vector scans over the octets of a message head, from scan.h.

Each scan returns the offset of the first byte of s[at:end] that is not of its kind, or `end`; `at <= end`, and
s[0:end] is readable.
"""
from libc.stdint cimport uint64_t

cdef extern from "scan.h" nogil:
    size_t pg_scan_text(const char* s, size_t at, size_t end)    # HTAB, SP, VCHAR, obs-text: field value, reason phrase
    size_t pg_scan_target(const char* s, size_t at, size_t end)  # VCHAR but "#": request target
    size_t pg_scan_token(const char* s, size_t at, size_t end)   # tchar: method, field name

    # True if `name` is `lower` (in lower case) but for ASCII case; both `size` bytes.
    bint pg_equals_lower(const char* name, const char* lower, size_t size)

    # The first 8 bytes of a name in lower case: equal for equal names.
    uint64_t pg_name_word(const char* name, size_t size)

    bint pg_is_text(unsigned char c)   # the kind of pg_scan_text
