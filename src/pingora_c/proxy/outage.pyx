"""Outages of endpoints. Owns nothing; the endpoint decides."""
from pingora_c.stats.counters cimport ENDPOINT_OUTAGES, ENDPOINT_RETURNS
from pingora_c.upstream.endpoint cimport USE_FAILED, USE_GOOD, USE_UNKNOWN


cdef void tell(Plan plan, Endpoint endpoint) noexcept:
    try:
        plan.on_outage(endpoint.address.text, endpoint.failures_in_row, endpoint.out_for)
    except:
        pass   # ignored: no memory for a line


cdef bint note_answer(Plan plan, Endpoint endpoint, uint16_t status) noexcept:
    if endpoint.rules is not None and endpoint.rules.counts(status):
        return True
    if endpoint.out_until_us and endpoint.on_answer():
        plan.reactor.counted[<int>ENDPOINT_RETURNS] += 1
        tell(plan, endpoint)
    return False


cdef void note_use(Plan plan, Endpoint endpoint, bint is_failure, bint was_answered) noexcept:
    if endpoint.on_finish(USE_FAILED if is_failure else USE_GOOD if was_answered else USE_UNKNOWN):
        plan.reactor.counted[<int>ENDPOINT_OUTAGES] += 1
        tell(plan, endpoint)
