"""The table of refusals; those of heads and framing are told by their codecs."""
from pingora_c.h1.head cimport head_error_reason, head_error_status
from pingora_c.h1.verdict cimport verdict_reason, verdict_status

cdef struct Row:
    uint16_t status
    const char* reason

cdef Row[REFUSAL_END - REFUSED_OTHER] ROWS
ROWS[0] = Row(400, b"unknown")
ROWS[<int>REFUSED_SLOW_HEAD - <int>REFUSED_OTHER] = Row(408, b"head_timeout")
ROWS[<int>REFUSED_CONNECT - <int>REFUSED_OTHER] = Row(405, b"connect_refused")
ROWS[<int>REFUSED_TRACE - <int>REFUSED_OTHER] = Row(405, b"trace_refused")
ROWS[<int>REFUSED_MISDIRECTED - <int>REFUSED_OTHER] = Row(421, b"misdirected_request")
ROWS[<int>REFUSED_BUFFERS - <int>REFUSED_OTHER] = Row(503, b"buffers_full")
ROWS[<int>REFUSED_NO_MEMORY - <int>REFUSED_OTHER] = Row(503, b"no_memory")


cdef uint16_t refusal_status(int refusal) noexcept nogil:
    if refusal < REFUSED_FRAMING:
        return <uint16_t>head_error_status(REFUSED_HEAD - refusal)
    if refusal < REFUSED_OTHER:
        return <uint16_t>verdict_status(REFUSED_FRAMING - refusal)
    return ROWS[refusal - REFUSED_OTHER].status


cdef const char* refusal_reason(int refusal) noexcept nogil:
    if refusal < REFUSED_FRAMING:
        return head_error_reason(REFUSED_HEAD - refusal)
    if refusal < REFUSED_OTHER:
        return verdict_reason(REFUSED_FRAMING - refusal)
    return ROWS[refusal - REFUSED_OTHER].reason
