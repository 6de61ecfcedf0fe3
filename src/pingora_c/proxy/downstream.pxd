"""The server side of HTTP/1.1: a client's connection and the stream of its present exchange.

    IDLE -> HEAD -> EXCHANGE -> IDLE … ; any -> FLUSHING -> LINGERING -> closed
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stddef cimport size_t
from pingora_c.http.message cimport RequestHead, ResponseHead
from pingora_c.net.connection cimport Connection
from pingora_c.lib.socket cimport sockaddr_storage
from pingora_c.net.listener cimport Acceptor
from pingora_c.net.proxy_protocol cimport ProxyProtocol
from pingora_c.net.reactor cimport Reactor
from pingora_c.net.timer cimport Timer
from pingora_c.proxy.error_page cimport ErrorPages
from pingora_c.proxy.h1_stream cimport H1Stream
from pingora_c.proxy.stream cimport StreamOwner

cdef enum ServerState:
    SERVER_IDLE = 0       # between exchanges; nothing of a head is here
    SERVER_HEAD = 1       # part of a head is here
    SERVER_EXCHANGE = 2   # a session is at work
    SERVER_FLUSHING = 3   # the last answer leaves, then the connection ends
    SERVER_LINGERING = 4  # our side has ended; what the client still sends is discarded for a while

# Limits of a listener's connections; times in milliseconds.
cdef struct ServerLimits:
    uint32_t handshake_ms      # a TLS handshake: closed
    uint32_t head_ms           # from a head's first byte to its last: 408
    uint32_t keep_alive_ms     # between exchanges: closed silently
    uint32_t body_ms           # between reads of a request body: 408
    uint32_t body_rate         # bytes per second of it on average over any body_ms, 0: none; 408
    uint64_t body_bytes        # 413
    uint32_t tunnel_ms         # without a byte either way: cut, a quarter of it later at most
    uint32_t write_ms          # without progress while the client takes nothing: cut
    uint32_t head_bytes        # 431
    uint32_t target_bytes      # 414
    uint32_t fields            # 431
    uint32_t connections       # of the worker: none more is accepted
    uint32_t client_connections    # of one address, 0: any number; closed at once
    uint64_t buffered_bytes    # that all buffers of the process may have
    uint64_t requests          # of one connection, then it ends


cdef class Application(Acceptor):
    """What a listener serves: makes an owner for each exchange."""
    cdef Reactor reactor
    cdef ServerLimits limits
    cdef ErrorPages pages
    # Give the stream an owner and start it; -1 without memory.
    cdef int begin(self, H1ServerStream stream, RequestHead head) noexcept
    # `server` refuses a message that no session saw, with `size` bytes of a body
    cdef void on_refused(self, H1Server server, int refusal, size_t size) noexcept
    cdef void on_server_closed(self, H1Server server) noexcept


cdef class H1Server(Connection):
    cdef Application application
    cdef H1ServerStream stream     # None between exchanges
    cdef uint8_t state             # ServerState
    cdef Timer write_timer         # armed while the client takes nothing of what waits
    cdef uint64_t written_before   # bytes_written when it was armed
    cdef bint asks_head            # the message that is read begins as HEAD: a refusal has no body
    cdef size_t head_seen          # bytes of the incomplete head already shown to the parser
    cdef uint64_t head_at_us       # when the head's first byte was read
    cdef uint32_t n_exchanges
    cdef uint64_t moved_before     # of a tunnel: bytes read and written when it was looked at last
    cdef uint64_t linger_end_us    # when lingering ends at the latest
    cdef uint8_t quiet_quarters    # of a tunnel: times it was looked at since something moved
    cdef bint is_sending           # behind the last exchange more bytes may come: of a body, or of a protocol
    cdef bint is_resting           # paused until its next turn, since it had enough requests in this one
    cdef char client_ip[46]        # text of the client's address, "unix" for a Unix socket
    cdef uint8_t client_ip_size
    cdef uint16_t client_port
    cdef ProxyProtocol introduction    # by a proxy in front, None: there was none
    cdef object plan               # the service's, when it last saw a request here
    cdef bint is_trusted           # by that plan: X-Forwarded-* of this client are kept
    cdef object client_key         # of Admission
    cdef object persisted          # what persist_connection_context gave, for the next request; None: nothing
    cdef void watch_writing(self) noexcept
    cdef void on_write_timeout(self) noexcept
    cdef size_t read_head(self, const char* data, size_t size) noexcept
    cdef Py_ssize_t take_head(self, const char* data, size_t size) except -1
    cdef void begin(self, H1ServerStream stream, RequestHead head) noexcept
    cdef bint is_served(self, RequestHead head) noexcept    # its Host is one of this connection's (RFC 9110 §7.4)
    cdef void fail(self, int kind) noexcept
    cdef void refuse(self, int refusal) noexcept
    cdef size_t write_refusal(self, int refusal) except? 1     # bytes of its body
    cdef void end_exchange(self, bint reusable) noexcept
    cdef void begin_close(self) noexcept
    cdef void linger(self) noexcept
    cdef void keep_lingering(self) noexcept
    cdef void watch_tunnel(self) noexcept
    cdef str client_text(self)     # "ip:port", "[ip]:port" or "unix"
    cdef void note_client(self, const sockaddr_storage* address) noexcept
    cdef void note_ipv4(self, const uint8_t* host) noexcept
    cdef void arm(self, uint32_t delay_ms) noexcept


cdef class H1ServerStream(H1Stream):
    cdef H1Server server
    cdef uint8_t client_minor
    cdef bint to_head              # the request's method is HEAD
    cdef bint close_after          # the connection ends with this exchange
    cdef bint head_sent            # a final head was written
    cdef uint64_t window_at_ms     # start of the present stretch over which the body's rate is measured
    cdef uint64_t window_bytes     # that came in it
    cdef uint64_t paused_at_ms     # while body_paused: since when; that time does not count
    # `size` more bytes of the body came: whether it is slower than the limit
    cdef bint is_too_slow(self, size_t size) noexcept
    # Write a final head. `length` < 0: not known (chunked, or to the end of the connection for HTTP/1.0).
    cdef int send_head(self, ResponseHead head, int64_t length, bint is_upgrade) noexcept
    cdef int send_interim(self, ResponseHead head) noexcept
    cdef int send_continue(self) noexcept      # 100: the client may send its body (RFC 9110 §10.1.1)
    # whether the connection can carry another exchange after this one
    cdef bint is_reusable(self, bint is_complete) noexcept
    # The owner is done with the exchange; `is_complete` only if the whole answer was written.
    cdef void release(self, bint is_complete) noexcept
