"""A session over TCP: bytes of one client's connection to one upstream's and back, whatever they mean.

    FILTER -> HELLO -> CHOOSE -> CONNECT -> RELAY -> LOG -> DONE; a failure goes to LOG from anywhere

HELLO is left out unless the plan reads it. Hooks run in FILTER, CHOOSE and LOG; while one awaits, and before RELAY, the
client is not read. Each side ends on its own (half-close); the session ends when both have, or one is lost.
"""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.net.timer cimport Timer
from pingora_c.proxy.hook_context cimport HookContext
from pingora_c.proxy.plan cimport Plan
from pingora_c.proxy.tcp_leg cimport TcpClient, TcpOwner, TcpUpstream
from pingora_c.upstream.balancer cimport SelectionScope
from pingora_c.upstream.endpoint cimport Endpoint
from pingora_c.upstream.peer cimport HttpPeer

# The hooks of a TcpProxy; index into Plan.hooks.
cdef enum TcpPhase:
    TCP_CONNECTION_FILTER = 0
    TCP_UPSTREAM_PEER
    TCP_LOGGING
    TCP_PHASE_END

cdef enum TcpState:
    TCP_FILTER = 0
    TCP_HELLO        # the client's first message is read, and kept
    TCP_CHOOSE
    TCP_CONNECT
    TCP_RELAY
    TCP_LOG
    TCP_DONE


@cython.final
cdef class TcpSession(TcpOwner):
    cdef Plan plan
    cdef TcpClient client
    cdef TcpUpstream upstream    # None while there is none
    cdef HookContext hooks       # None before the first hook
    cdef object task             # of the hook that awaits, None: none does
    cdef uint8_t phase           # TcpPhase of the hook that ran last
    cdef uint8_t state           # TcpState
    cdef Timer timer             # of the hook that awaits, then of the tunnel
    cdef HttpPeer chosen
    cdef Endpoint endpoint       # in flight there, None if not
    cdef SelectionScope scope
    cdef uint8_t failure         # FailureKind, the first one
    cdef uint8_t attempt_failure  # of the present attempt
    cdef object cause            # what a hook raised
    cdef uint32_t n_attempts
    cdef uint64_t started_us
    cdef uint64_t connect_at_us
    cdef uint64_t connected_us
    cdef uint64_t ended_us
    cdef uint64_t moved_before   # of the tunnel: bytes moved when it was looked at last
    cdef uint8_t quiet_quarters
    cdef bint is_connected       # the present attempt has its connection
    cdef bint client_ended       # its end was passed on
    cdef bint upstream_ended
    cdef bint client_lost        # it takes nothing more; what it sent before is still passed on
    cdef bint upstream_lost
    cdef bytes hello_name        # of the client's hello, None: it asked for none, or was not read
    cdef bytes hello_alpn
    cdef bytes farewell          # bytes that a hook has the client sent instead, None: none
    cdef readonly str client_address     # "ip:port", "[ip]:port" or "unix"
    cdef public object ctx       # the user's own

    cdef void start(self) noexcept
    # -- hooks
    cdef void run(self, int phase) noexcept
    cdef object caught(self, int phase)
    cdef object caught_after(self, int phase, object result)
    cdef object caught_select(self)
    cdef int run_or_raise(self, int phase) except -1
    cdef int after_or_raise(self, int phase, object result) except -1
    cdef void hook_failed(self, object error) noexcept
    cdef void cancel_task(self) noexcept
    # -- steps
    cdef int read_hello(self) except -1
    cdef size_t take_hello(self, const char* data, size_t size) noexcept
    cdef int select_peer(self) except -1
    cdef void connect(self) noexcept
    cdef int open_upstream(self, bytes greeting) except -2
    cdef void begin_relay(self) noexcept
    cdef void try_finish(self) noexcept
    cdef void watch(self) noexcept
    cdef void let_upstream_go(self, bint is_failure) noexcept
    cdef void finish(self) noexcept
    cdef void conclude(self) noexcept
    cdef int write_access_log(self) except -1
    cdef void write_error_log(self) noexcept
    cdef object error_or_none(self)
