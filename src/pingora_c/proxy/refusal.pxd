"""Why a message was refused that no session saw: the status that tells the client, the reason for logs and counters.

A Refusal is a HeadError (REFUSED_HEAD - error), a Verdict (REFUSED_FRAMING - verdict) or one of those below.
"""
from libc.stdint cimport uint16_t

cdef enum Refusal:
    REFUSED_HEAD = 0         # 400, 414, 431, 501, 505
    REFUSED_FRAMING = 32     # 400, 417, 421, 501
    REFUSED_OTHER = 64       # no reason: where the table of the following begins
    REFUSED_SLOW_HEAD        # 408
    REFUSED_CONNECT          # 405
    REFUSED_TRACE            # 405
    REFUSED_MISDIRECTED      # 421  the Host is none that this TLS connection was made for
    REFUSED_NO_MEMORY        # 503
    REFUSED_BUFFERS          # 503  Limits.buffered_bytes are nearly used
    REFUSAL_END

cdef uint16_t refusal_status(int refusal) noexcept nogil
cdef const char* refusal_reason(int refusal) noexcept nogil    # snake case; "unknown" for a number without a meaning
