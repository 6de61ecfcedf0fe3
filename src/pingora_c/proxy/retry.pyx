"""Retry decisions: pure functions, nothing is owned."""
from pingora_c.base.clock cimport now_us
from pingora_c.proxy.failure cimport (
    CALL_TIMEOUT, FIRST_BYTE_TIMEOUT, TOTAL_TIMEOUT, TRY_TIMEOUT, UPSTREAM_CLOSED, UPSTREAM_HEAD_TIMEOUT,
    UPSTREAM_REFUSED, UPSTREAM_STATUS, UPSTREAM_TIMEOUT, UPSTREAM_TOTAL_TIMEOUT, UPSTREAM_WRITE_TIMEOUT,
)


cdef bint is_silence(int kind) noexcept nogil:
    """Whether an attempt took longer than a limit of its own."""
    return (kind == FIRST_BYTE_TIMEOUT or kind == UPSTREAM_TIMEOUT or kind == UPSTREAM_WRITE_TIMEOUT
            or kind == UPSTREAM_HEAD_TIMEOUT or kind == UPSTREAM_TOTAL_TIMEOUT or kind == TRY_TIMEOUT)


cdef bint may_retry(const RetryRules* rules, const Attempt* attempt, int kind) noexcept nogil:
    cdef bint is_safe = rules.any_method or attempt.is_idempotent
    if kind == CALL_TIMEOUT:
        return False
    if attempt.number >= rules.attempts_max or not has_time_left(rules, attempt.started_us):
        return False
    if not attempt.request_sent:
        return True
    if not attempt.can_replay:
        return False
    if kind == UPSTREAM_REFUSED:
        return True
    if kind == UPSTREAM_CLOSED and attempt.was_stale:
        return is_safe or attempt.has_unsent_body
    if kind == UPSTREAM_STATUS:
        return is_safe
    return is_safe and rules.lost and (kind == UPSTREAM_CLOSED or is_silence(kind))


cdef bint has_time_left(const RetryRules* rules, uint64_t started_us) noexcept nogil:
    return not rules.total_ms or now_us() - started_us < <uint64_t>1000 * rules.total_ms


cdef bint is_retried_status(const RetryRules* rules, uint16_t status) noexcept nogil:
    cdef int i
    for i in range(rules.n_statuses):
        if rules.statuses[i] == status:
            return True
    return False


cdef uint64_t left_ms(uint64_t limit_ms, uint64_t since_us) noexcept nogil:
    cdef uint64_t used_ms = (now_us() - since_us) // 1000
    return limit_ms - used_ms if limit_ms > used_ms else 1


cdef uint64_t attempt_ms(
    const RetryRules* rules, uint64_t started_us, uint64_t peer_ms,
    uint8_t* kind,
) noexcept nogil:
    cdef uint64_t limit_ms = rules.try_ms
    cdef uint64_t total_ms
    kind[0] = TRY_TIMEOUT
    if rules.total_ms:
        total_ms = left_ms(rules.total_ms, started_us)
        if limit_ms == 0 or total_ms < limit_ms:
            limit_ms = total_ms
            kind[0] = TOTAL_TIMEOUT
    if peer_ms and (limit_ms == 0 or peer_ms < limit_ms):
        limit_ms = peer_ms
        kind[0] = UPSTREAM_TOTAL_TIMEOUT
    return limit_ms
