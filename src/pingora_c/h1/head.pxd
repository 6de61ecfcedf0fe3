"""HTTP/1 head parser (RFC 9112 §2–§5): bytes to spans, strict, stateless, without allocation.

Contract, after picohttpparser: the caller keeps one contiguous buffer from the head's first byte on and calls again
with
more bytes and with how many of them it had already shown (`seen`). A call with too few bytes returns H1_INCOMPLETE
after
looking for the head's end only in the bytes from `seen` on (so drip-feeding stays linear). Offsets in the result
count from `buf`.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from pingora_c.base.span cimport Span
from pingora_c.http.field cimport Field

# Return codes below zero; H1_INCOMPLETE asks for more bytes, the others refuse the message.
cdef enum HeadError:
    H1_INCOMPLETE = -1
    H1_BAD_REQUEST_LINE = -2       # 400  not METHOD SP TARGET SP VERSION CRLF
    H1_BAD_METHOD = -3             # 400  not a token
    H1_BAD_TARGET = -4             # 400  empty, control byte, space, DEL, non-ASCII octet or '#'
    H1_TARGET_TOO_LONG = -5        # 414  longer than limits.target_bytes
    # 505  for "HTTP/" DIGIT "." DIGIT of a major version other than 1; see H1_BAD_REQUEST_LINE
    H1_BAD_VERSION = -6
    H1_BAD_STATUS_LINE = -7        # 502  from the origin
    H1_BAD_LINE_END = -8           # 400  LF without CR, CR without LF
    H1_BAD_FIELD_NAME = -9         # 400  empty, not a token, white space before the colon, fold
    H1_BAD_FIELD_VALUE = -10       # 400  NUL, control byte other than HTAB, DEL
    H1_TOO_MANY_FIELDS = -11       # 431
    H1_HEAD_TOO_LARGE = -12        # 431
    H1_METHOD_TOO_LONG = -13       # 501  longer than 64 bytes (RFC 9112 §3)

cdef struct HeadLimits:
    uint32_t head_bytes    # of the whole head, start line and final CRLF included
    uint32_t target_bytes
    uint32_t fields        # room in the caller's field table

cdef struct RequestLine:
    Span method
    Span target
    uint8_t minor          # HTTP/1.<minor>: 0 or 1 (RFC 9110 §2.5: 1.2 and above are treated as 1.1)

cdef struct StatusLine:
    uint16_t status        # 100..599 (RFC 9110 §15: outside it is invalid)
    Span reason            # may be empty
    uint8_t minor

# Parse a request head at `buf`. Return its size in bytes (> 0, final CRLF included) or a HeadError.
#
# Before the request line at most one empty line (CRLF) is skipped (RFC 9112 §2.2). On success `fields[0:n_fields[0]]`
# are set,
# `known` included, `flags` zero. `fields` has room for limits.fields.
cdef Py_ssize_t parse_request_head(
    const char* buf, size_t size, size_t seen, const HeadLimits* limits,
    RequestLine* line, Field* fields, uint32_t* n_fields,
) noexcept nogil

# The same for a response head. The reason phrase may hold HTAB, SP, VCHAR and obs-text; the space before it may be
# missing if it is empty.
cdef Py_ssize_t parse_response_head(
    const char* buf, size_t size, size_t seen, const HeadLimits* limits,
    StatusLine* line, Field* fields, uint32_t* n_fields,
) noexcept nogil

# Parse field lines from `buf + at` up to and including the empty line (also used for trailers).
#
# Return the offset behind the empty line or a HeadError. Spans count from `buf`.
cdef Py_ssize_t parse_fields(
    const char* buf, size_t size, size_t at, const HeadLimits* limits, Field* fields, uint32_t* n_fields,
) noexcept nogil

# The HTTP status that answers a client's bad head: 400, 414, 431, 501 or 505.
cdef int head_error_status(int error) noexcept nogil

# A machine-readable reason in snake case, for logs and tests.
cdef const char* head_error_reason(int error) noexcept nogil
