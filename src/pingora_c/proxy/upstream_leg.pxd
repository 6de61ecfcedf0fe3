"""The client side of HTTP/1.1: a connection to an origin and the stream of its present exchange.

    CONNECTING -> BUSY -> IDLE (pooled) -> BUSY …; any -> closed
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.http.message cimport RequestHead, ResponseHead
from pingora_c.net.connection cimport Connection
from pingora_c.net.reactor cimport Reactor
from pingora_c.net.transport cimport Transport
from pingora_c.proxy.h1_stream cimport H1Stream
from pingora_c.proxy.stream cimport StreamOwner
from pingora_c.upstream.peer cimport HttpPeer
from pingora_c.upstream.pool cimport Pool

cdef enum ClientState:
    CLIENT_CONNECTING = 0
    CLIENT_IDLE = 1
    CLIENT_BUSY = 2


cdef class H1Client(Connection):
    cdef Pool pool
    cdef object key            # of the pool
    cdef bytes greeting        # of the PROXY protocol, sent before anything else; None: there is none
    cdef uint8_t state
    cdef HttpPeer peer         # whom it serves, or served last: its limits
    cdef uint32_t wait_ms      # after this long without progress it is looked which limit is meant
    cdef uint64_t waits_since_ms   # last progress
    cdef uint64_t written_before   # of a tunnel: bytes_written when the timer ran out last
    cdef H1ClientStream stream
    cdef void wait(self) noexcept                      # there was progress
    cdef void serve_peer(self, HttpPeer peer) noexcept
    cdef void fail_after(self, uint64_t limit_ms, int kind) noexcept   # unless it is less long that we wait
    cdef void fail(self, int kind) noexcept
    cdef void leave_pool(self) noexcept


cdef class H1ClientStream(H1Stream):
    cdef H1Client client
    cdef RequestHead offer     # of an upgrade: what it was asked with; else None
    cdef bint is_raw           # of a CONNECT: no HTTP is spoken, the tunnel begins with send_request
    cdef bint request_written  # the head was
    cdef uint64_t head_at_ms   # when the head that is not whole began, 0: none is
    cdef size_t head_seen      # bytes of it that were looked at
    cdef uint8_t n_interim     # 1xx answers so far
    cdef int begin_tunnel(self) except -1
    cdef size_t read_head(self, const char* data, size_t size) noexcept
    cdef Py_ssize_t take_head(self, const char* data, size_t size) except -1
    # Whether a 101 goes over to what was offered. A WebSocket's key that is ours nobody else compares (RFC 6455 §4.1).
    cdef bint is_switch(self, ResponseHead head) except -1
    cdef void note_end(self, int code) noexcept      # the connection ended with an IoCode, before the answer did
    cdef str end_text(self, int code)
    cdef void watch_head(self) noexcept              # its head has begun and is not whole
    cdef void pool_client(self, H1Client client) noexcept


# Open a stream to `peer` into owner.opened: over a pooled connection if there is one and `may_reuse` (it is ready at
# once: 1), else over a new one (0: on_connected or on_failure follows). -1 if no socket could be made or the connect
# failed at once, -3 if there is no descriptor for one. `h1_only`: of a peer that may choose, HTTP/1.1 is wanted.
cdef int open_h1_stream(
    Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner, bint may_reuse, bint h1_only,
) except -2
# The same for a tunnel of bytes, over a new connection.
cdef int open_raw_stream(Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner) except -2
# The same over a pooled connection only: 1, or 0 if there is none.
cdef int reuse_h1(Pool pool, HttpPeer peer, StreamOwner owner) except -1
# The same over a transport that is open already, which it takes over: 0, -1 without memory.
cdef int adopt_h1(Reactor reactor, Pool pool, HttpPeer peer, Transport transport, StreamOwner owner) except -2
