"""The two connections of a TCP session. They tell their owner what happens, and are written to as any Connection."""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from pingora_c.net.connection cimport Connection
from pingora_c.proxy.server_connection cimport ServerConnection
from pingora_c.upstream.peer cimport HttpPeer


# `is_client`: the callback is about the client's side.
cdef class TcpOwner:
    cdef str detail              # why a handshake with an upstream failed, for logs; None: it did not
    cdef size_t on_bytes(self, bint is_client, const char* data, size_t size) noexcept
    cdef void on_end(self, bint is_client, int code) noexcept
    cdef void on_writable(self, bint is_client) noexcept
    cdef void on_broken(self, bint is_client) noexcept
    cdef void on_connected(self) noexcept
    cdef void on_attempt_failed(self, int kind) noexcept     # before on_connected
    cdef void on_hello_timeout(self) noexcept
    # End with this FailureKind unless it has ended, or failed before.
    cdef void fail(self, int kind) noexcept


@cython.final
cdef class TcpClient(ServerConnection):
    cdef TcpOwner session        # None before the connection is open, and at the end


@cython.final
cdef class TcpUpstream(Connection):
    cdef TcpOwner session        # None once the session let go
    cdef HttpPeer peer
    cdef bytes greeting          # of the PROXY protocol, to be sent first; None: there is none
    cdef bint is_connecting
    cdef uint64_t written_before  # bytes_written when the timer was armed for writing
    cdef void fail(self, int kind) noexcept
