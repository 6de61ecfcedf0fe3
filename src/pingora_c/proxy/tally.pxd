"""What sessions count for their service and for the upstreams that they ask, beside the counters of the worker.

A session gets the cells of an upstream when an attempt begins and gives them back when it ends; they are good as long
as its plan.
"""
from libc.stdint cimport uint64_t
from pingora_c.http.message cimport ResponseHead
from pingora_c.proxy.plan cimport Plan
from pingora_c.stats.counters cimport (
    ATTEMPT_FAILURES, ATTEMPTS, FAILURES, REQUESTS, REQUESTS_ACTIVE, RETRIES, SERVICE_ACTIVE, SERVICE_ENDED,
    SERVICE_HOOKS, SERVICE_RECEIVED, SERVICE_SENT, SERVICE_TIME, UPSTREAM_ACTIVE, UPSTREAM_ANSWERED,
    UPSTREAM_ATTEMPTS, UPSTREAM_CONNECT, UPSTREAM_CONNECT_FAILED, UPSTREAM_FAILED, UPSTREAM_FIRST_BYTE,
    UPSTREAM_RETRIES, UPSTREAM_REUSED,
)
from pingora_c.stats.histogram cimport observe
from pingora_c.upstream.endpoint cimport Endpoint

# The cells of an endpoint in the counters of a plan; those of "_other" for None, which is a peer that a hook made.
cdef uint64_t* upstream_cells(Plan plan, Endpoint endpoint) noexcept
# The cells of a service.
cdef uint64_t* service_cells(Plan plan, str name) except NULL


cdef inline void count_request(Plan plan) noexcept:
    plan.reactor.counted[<int>REQUESTS] += 1
    plan.reactor.counted[<int>REQUESTS_ACTIVE] += 1
    plan.tally[<int>SERVICE_ACTIVE] += 1


cdef inline uint64_t* count_attempt(Plan plan, Endpoint endpoint, bint is_retry) noexcept:
    cdef uint64_t* asked
    if endpoint is not None and endpoint.counters_serial == plan.reactor.counters.serial:
        asked = endpoint.cells
    else:
        asked = upstream_cells(plan, endpoint)
    plan.reactor.counted[<int>ATTEMPTS] += 1
    plan.reactor.counted[<int>RETRIES] += is_retry
    asked[<int>UPSTREAM_ACTIVE] += 1
    asked[<int>UPSTREAM_ATTEMPTS] += 1
    asked[<int>UPSTREAM_RETRIES] += is_retry
    return asked


cdef inline void count_connected(uint64_t* asked, bint is_reused, uint64_t took_us) noexcept:
    if is_reused:
        asked[<int>UPSTREAM_REUSED] += 1
    else:
        observe(&asked[<int>UPSTREAM_CONNECT], took_us)


cdef inline void count_response(uint64_t* asked, int status, uint64_t took_us) noexcept:
    asked[<int>UPSTREAM_ANSWERED + status // 100] += 1
    observe(&asked[<int>UPSTREAM_FIRST_BYTE], took_us)


# `n` is 0 or 1; `asked` NULL: the attempt is over already.
cdef inline void count_failed_attempts(Plan plan, uint64_t* asked, int kind, bint is_connected, int n) noexcept:
    plan.reactor.counted[<int>ATTEMPT_FAILURES + kind] += n
    if asked != NULL:
        asked[<int>UPSTREAM_FAILED if is_connected else <int>UPSTREAM_CONNECT_FAILED] += n


# NULL: over already. Gives NULL.
cdef inline uint64_t* end_attempt(uint64_t* asked) noexcept:
    if asked != NULL:
        asked[<int>UPSTREAM_ACTIVE] -= 1
    return NULL


# Of the answer, 0 if none was sent.
cdef inline int status_of(ResponseHead head, bint is_sent) noexcept:
    return head.status_code if is_sent and head is not None else 0


cdef inline void count_outcome(Plan plan, int failure) noexcept:
    plan.reactor.counted[<int>FAILURES + failure] += 1


# `status` is 0 if nothing was answered.
cdef inline void count_ended(Plan plan, int status, uint64_t took_us, uint64_t sent, uint64_t received) noexcept:
    plan.reactor.counted[<int>REQUESTS_ACTIVE] -= 1
    plan.tally[<int>SERVICE_ACTIVE] -= 1
    plan.tally[<int>SERVICE_ENDED + status // 100] += 1
    plan.tally[<int>SERVICE_SENT] += sent
    plan.tally[<int>SERVICE_RECEIVED] += received
    observe(&plan.tally[<int>SERVICE_TIME], took_us)


cdef inline void count_hooks(Plan plan, uint64_t took_us) noexcept:
    observe(&plan.tally[<int>SERVICE_HOOKS], took_us)
