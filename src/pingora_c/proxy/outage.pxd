"""What sessions tell an endpoint: how it answered, how its use ended. Counts and logs when that takes it out of
selection, or in again.
"""
from libc.stdint cimport uint16_t
from pingora_c.proxy.plan cimport Plan
from pingora_c.upstream.endpoint cimport Endpoint

# An answer's head came. True if its status counts as a failure.
cdef bint note_answer(Plan plan, Endpoint endpoint, uint16_t status) noexcept
# A session is done with the endpoint, once for each Endpoint.on_start.
cdef void note_use(Plan plan, Endpoint endpoint, bint is_failure, bint was_answered) noexcept
