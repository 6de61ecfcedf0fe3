"""The server side of HTTP/1.1: a client's connection and the stream of its present exchange.

    IDLE -> HEAD -> EXCHANGE [-> DRAINING] -> IDLE … ; any -> FLUSHING -> LINGERING -> closed
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stddef cimport size_t
from pingora_c.base.flag cimport flag
from pingora_c.http.message cimport RequestHead
from pingora_c.proxy.h1_stream cimport H1Stream
from pingora_c.proxy.server_connection cimport ServerConnection

cdef enum ServerState:
    SERVER_IDLE = 0       # between exchanges; nothing of a head is here
    SERVER_HEAD = 1       # part of a head is here
    SERVER_EXCHANGE = 2   # a session is at work
    SERVER_DRAINING = 3   # between exchanges; the rest of a body is thrown away
    SERVER_FLUSHING = 4   # the last answer leaves, then the connection ends
    SERVER_LINGERING = 5  # our side has ended; what the client still sends is discarded for a while


cdef class H1Server(ServerConnection):
    cdef H1ServerStream stream     # None between exchanges
    cdef size_t head_seen          # bytes of the incomplete head already shown to the parser
    # of a tunnel: bytes read and written when it was looked at last; while DRAINING: bytes of the body still to come
    cdef uint64_t moved_before
    cdef uint64_t linger_end_ms    # when lingering ends at the latest
    cdef uint32_t n_exchanges
    cdef uint8_t state             # ServerState
    cdef uint8_t quiet_quarters    # of a tunnel: times it was looked at since something moved
    cdef flag asks_head            # the message that is read begins as HEAD: a refusal has no body
    cdef flag is_sending           # behind the last exchange more bytes may come: of a body, or of a protocol
    cdef flag is_resting           # paused until its next turn, since it had enough requests in this one
    cdef bint is_preface(self, const char* data, size_t size) noexcept
    cdef bint is_foreign(self, const char* data, size_t size) noexcept     # the bad head at `data`
    cdef size_t read_head(self, const char* data, size_t size) noexcept
    cdef Py_ssize_t take_head(self, const char* data, size_t size) except -1
    cdef void begin(self, H1ServerStream stream, RequestHead head) noexcept
    cdef void refuse(self, int refusal) noexcept
    cdef void end_refused(self, int refusal, size_t size) noexcept     # `size`: bytes of the answer's body
    cdef size_t write_refusal(self, int refusal) except? 1     # bytes of its body
    cdef void end_exchange(self, bint reusable) noexcept
    cdef void drain_body(self, uint64_t size) noexcept     # throw `size` > 0 bytes away, then be idle
    cdef void be_idle(self) noexcept
    cdef void begin_close(self) noexcept
    cdef void linger(self) noexcept
    cdef void keep_lingering(self) noexcept
    cdef void watch_tunnel(self) noexcept
    cdef void look_for_end(self) noexcept      # behind a whole request, if a client that ends its side is gone
    # In an exchange: bytes of its request that did not come yet; < 0 if more than the request came, or if nobody can
    # tell, as of chunks that wait to be read.
    cdef int64_t lacks(self) noexcept


cdef class H1ServerStream(H1Stream):
    cdef H1Server server
    cdef uint8_t client_minor
    cdef bint head_sent            # a final head was written
    cdef uint64_t window_at_ms     # start of the present stretch over which the body's rate is measured
    cdef uint64_t window_read      # bytes_read of the connection when it began
    cdef uint64_t paused_at_ms     # while body_paused: since when; that time does not count
    # More of the body came: whether it is slower than the limit
    cdef bint is_too_slow(self) noexcept
