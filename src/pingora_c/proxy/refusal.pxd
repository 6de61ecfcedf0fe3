"""Why a message was refused that no session saw: the status that tells the client, the reason for logs and counters.

A Refusal is a HeadError (REFUSED_HEAD - error), a FramingError (REFUSED_FRAMING - error) or one of those below.
"""
from libc.stdint cimport uint16_t

cdef enum Refusal:
    REFUSED_HEAD = 0         # 400, 414, 431, 505
    REFUSED_FRAMING = 32     # 400, 501
    REFUSED_OTHER = 64       # no reason: where the table of the following begins
    REFUSED_SLOW_HEAD        # 408
    REFUSED_METHOD           # 405  CONNECT
    REFUSED_AUTHORITY        # 400  longer than any name can be
    REFUSED_NO_MEMORY        # 503
    REFUSAL_END

cdef uint16_t refusal_status(int refusal) noexcept nogil
cdef const char* refusal_reason(int refusal) noexcept nogil    # snake case; "unknown" for a number without a meaning
