"""When a request is tried again: the rules of a proxy applied to what happened in an attempt."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.proxy.plan cimport RetryRules

# What an attempt that failed had done.
cdef struct Attempt:
    uint32_t number          # 1 for the first
    uint64_t started_us      # when the request began
    bint has_unsent_body     # the request has a body, of which neither a byte nor the end came yet
    bint request_sent        # its head, or more
    bint can_replay          # all of the body that came is kept
    bint is_idempotent       # RFC 9110 §9.2.2
    bint was_stale           # over a reused connection that brought no byte of an answer

# Nothing of the request sent, or the upstream says that it was not processed: any method. A reused connection died
# before an answer: an idempotent method, or one whose body was not begun, so that the origin cannot have acted on it
# (RFC 9110 §9.2.2). Anything else as the rules say, and never what cannot be sent again.
cdef bint may_retry(const RetryRules* rules, const Attempt* attempt, int kind) noexcept nogil
cdef bint has_time_left(const RetryRules* rules, uint64_t started_us) noexcept nogil
cdef bint is_retried_status(const RetryRules* rules, uint16_t status) noexcept nogil

# How long an attempt that begins now may take, 0: no limit. Whichever ends first of its own limit, that of all attempts
# and that of its peer, and the FailureKind (`kind`) for it.
cdef uint64_t attempt_ms(
    const RetryRules* rules, uint64_t started_us, uint64_t peer_ms,
    uint8_t* kind,
) noexcept nogil
# What is left of `limit_ms` since then, at least 1.
cdef uint64_t left_ms(uint64_t limit_ms, uint64_t since_us) noexcept nogil
