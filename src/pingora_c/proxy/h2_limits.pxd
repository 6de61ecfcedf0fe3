"""A listener's limits, as they hold for a client's connection of HTTP/2 and for the streams on it."""
from libc.stdint cimport uint32_t, uint64_t
from pingora_c.h2.session cimport H2Limits
from pingora_c.proxy.h2_stream cimport H2ServerStream
from pingora_c.proxy.server_connection cimport ServerLimits

# What the session of a connection is to keep to.
cdef void session_limits(H2Limits* made, const ServerLimits* limits) noexcept nogil
# How long to wait before the streams are looked at again: a quarter of the shortest limit, within bounds.
cdef uint32_t sweep_ms(const ServerLimits* limits) noexcept nogil
# The FailureKind of a stream that passed a limit of time, else OK. Ends its present stretch (proxy.pace), so once in a
# sweep, the last of which was at `before_ms`. `is_blocked`: the socket takes nothing, and the limit of the connection
# counts. Of a stream without an owner only what its client does not take is looked at.
cdef int overdue(H2ServerStream stream, const ServerLimits* limits, uint64_t before_ms, uint64_t now_ms,
                 bint is_blocked) noexcept
