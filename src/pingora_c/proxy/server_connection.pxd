"""The connection of a client, whatever protocol it speaks: who the client is, what holds for all its exchanges, the
limit on writing. Sessions know no other side of it; H1Server is one, and what a listener serves makes it.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.base.flag cimport flag
from pingora_c.h1.encode cimport Outgoing
from pingora_c.http.message cimport RequestHead
from pingora_c.lib.socket cimport sockaddr_storage
from pingora_c.net.connection cimport Connection
from pingora_c.net.listener cimport Acceptor
from pingora_c.net.proxy_protocol cimport ProxyProtocol
from pingora_c.net.reactor cimport Reactor
from pingora_c.net.timer cimport Timer
from pingora_c.proxy.error_page cimport ErrorPages
from pingora_c.proxy.stream cimport Stream, StreamOwner
from pingora_c.upstream.peer cimport HttpPeer

# Limits of a listener's connections; times in milliseconds.
cdef struct ServerLimits:
    uint32_t handshake_ms      # a TLS handshake: closed
    uint32_t head_ms           # from a head's first byte to its last: 408
    uint32_t keep_alive_ms     # between exchanges: closed silently
    uint32_t body_ms           # between reads of a request body: 408
    uint32_t body_rate         # bytes per second of it on average over any body_ms, 0: none; 408
    uint64_t body_bytes        # 413
    uint32_t chunk_extension_bytes     # of all its chunks: 400
    uint32_t tunnel_ms         # without a byte either way: cut, a quarter of it later at most
    uint32_t tunnel_total_ms   # of a tunnel, whatever moves, 0: none: the same
    uint32_t message_ms        # without a message of WebSocket either way, 0: none; closed with 1001
    uint64_t message_bytes     # of a message of WebSocket that a hook sees: closed with 1009
    uint32_t message_fragments     # frames of such a message: closed with 1008
    uint32_t write_ms          # without progress while the client takes nothing: cut
    uint32_t write_rate        # bytes per second that it takes while more waits, on average over write_ms, 0: any; cut
    uint32_t head_bytes        # 431
    uint32_t target_bytes      # 414
    uint32_t fields            # 431
    uint32_t connections       # of the worker: none more is accepted
    uint32_t client_connections    # of one address, 0: any number; closed at once
    uint64_t buffered_bytes    # that all buffers of the process may have
    uint64_t requests          # of one connection, then it ends
    uint32_t http2_streams     # of one connection of HTTP/2 at once, 0: HTTP/2 is not spoken
    uint32_t http2_window      # bytes of a request body that one stream may have on its way
    uint32_t http2_resets      # streams that a client may reset at once


cdef class Application(Acceptor):
    """What a listener serves: makes an owner for each exchange."""
    cdef Reactor reactor
    cdef ServerLimits limits
    cdef ErrorPages pages
    cdef bint is_closed            # it has ended: what else takes several turns is done at once
    cdef set heard_out             # streams of HTTP/2 that are closed, whose sessions go on: see H2ServerStream
    cdef bint takes_connect        # CONNECT is served
    cdef bint aborts_half_close    # a client of HTTP/1 that ends its side is gone
    # Give a stream of `server` an owner and start it; -1 without memory.
    cdef int begin(self, ServerConnection server, Stream stream, RequestHead head) noexcept
    # `server` refuses a message that no session saw, with `size` bytes of a body
    cdef void on_refused(self, ServerConnection server, int refusal, size_t size) noexcept
    cdef void on_server_closed(self, ServerConnection server) noexcept
    # The client of `server` speaks HTTP/2: its connection becomes another object, which is shown `data`.
    cdef void on_http2(self, ServerConnection server, const char* data, size_t size) noexcept


cdef class ServerConnection(Connection):
    cdef Application application
    cdef Timer write_timer         # armed while the client takes nothing of what waits
    cdef uint64_t written_before   # bytes_written when it was armed
    cdef uint64_t free_since_ms    # since when nothing waits, 0: something does
    cdef uint64_t head_at_us       # when the first byte came of the head that is, or was last, read
    cdef char client_ip[46]        # text of the client's address, "unix" for a Unix socket
    cdef uint8_t client_ip_size
    cdef uint16_t client_port
    cdef flag is_trusted           # by `plan`: X-Forwarded-* of this client are kept
    cdef uint32_t free_ms          # since write_timer was armed, in which nothing waited
    cdef uint32_t kernel_bytes     # that still_takes found, 0: it was not asked
    cdef uint32_t quiet_ms         # since the client took write_rate of them
    cdef ProxyProtocol introduction    # by a proxy in front, None: there was none
    cdef object plan               # the service's, when it last saw a request here
    cdef object client_key         # of Admission
    cdef str local_noted           # local_text() of a connection that ends before its sessions hear of it
    cdef object persisted          # what persist_connection_context gave, for the next request; None: nothing
    cdef void note_client(self, const sockaddr_storage* address) noexcept
    # What the client connected to, "ip:port" or "unix:/path"; None: it is closed, and that was not noted before.
    cdef str local_text(self)
    cdef void note_local(self) noexcept
    cdef str client_text(self)     # "ip:port", "[ip]:port" or "unix"
    cdef void arm(self, uint32_t delay_ms) noexcept         # on_timeout comes then, and not as it was armed before
    # Take over the socket and the client of `old`, which is dead afterwards.
    cdef void adopt(self, ServerConnection old) noexcept
    # The client's end of a Unix socket looks like a reset, with bytes to be read before it; this tells which it is.
    cdef bint was_cut(self) noexcept
    # Whether the kernel has bytes that the client goes on taking, as write_ms and write_rate say. Ask every so often.
    cdef bint still_takes(self, uint32_t every_ms) noexcept
    cdef int objection(self, RequestHead head) noexcept     # a Refusal of a valid request that is none for us, else 0
    cdef bint is_served(self, RequestHead head) noexcept    # its Host is one of this connection's (RFC 9110 §7.4)
    # What a connection to `peer` begins with, if it is to be told who the client is; None: nothing.
    cdef bytes greeting_to(self, HttpPeer peer)
    # Give it to whoever opens a stream to `peer` next: OK, or the FailureKind of who can not be introduced.
    cdef int introduce_to(self, HttpPeer peer, StreamOwner owner) noexcept
    # Say in a request that goes upstream who the client is, and how he came.
    cdef void describe_to(self, Outgoing* how) noexcept
    # -- overridden
    cdef bint is_idle(self) noexcept       # no session is at work
    cdef void fail(self, int kind) noexcept         # its sessions fail with this FailureKind, or it is closed
    cdef void close_if_idle(self) noexcept          # when what waits has left
    cdef void drain(self) noexcept                  # no more requests are wanted
    # -- private
    cdef void watch_writing(self) noexcept
    cdef void note_drained(self) noexcept           # nothing waits any more
    cdef bint reads_slowly(self) noexcept           # less than write_rate since the write timer was armed
    cdef void on_write_timeout(self) noexcept
    cdef void note_ipv4(self, const uint8_t* host) noexcept
