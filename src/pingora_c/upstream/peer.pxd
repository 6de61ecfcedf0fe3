"""HttpPeer: where a request goes and how to connect there."""
cimport cython
from libc.stdint cimport uint8_t, uint32_t
from pingora_c.net.proxy_protocol cimport ProxyProtocol
from pingora_c.net.tls_client cimport ClientContext
from pingora_c.net.transport cimport Transport
from pingora_c.upstream.address cimport Address
from pingora_c.upstream.endpoint cimport Endpoint


cdef enum PeerProtocol:
    PEER_H1 = 0
    PEER_H2 = 1          # with TLS as ALPN must choose, without by prior knowledge
    PEER_H2H1 = 2        # with TLS: as ALPN chooses


# A key of many parts, which is looked up for each request: its hash is made once.
@cython.final
cdef class PeerKey:
    cdef tuple parts
    cdef Py_hash_t number


@cython.final
cdef class HttpPeer:
    cdef readonly Address address
    cdef readonly Endpoint endpoint         # None for a peer made from a bare address
    cdef readonly uint32_t connect_timeout_ms
    cdef readonly uint32_t first_byte_timeout_ms
    cdef readonly uint32_t head_timeout_ms  # from the first byte of an answer's head to its last
    cdef readonly uint32_t read_timeout_ms  # between reads
    cdef readonly uint32_t write_timeout_ms
    cdef readonly uint32_t total_timeout_ms  # from the connect to the end of the answer; 0: none
    cdef readonly uint32_t idle_timeout_ms  # in the pool
    cdef uint8_t spoken                     # PeerProtocol
    cdef readonly uint32_t max_h2_streams   # of one connection; the origin may allow fewer
    cdef readonly uint32_t max_h2_connections   # that are open or being opened
    cdef readonly uint32_t h2_ping_interval_ms  # after so long without a byte a PING is sent; 0: only on suspicion
    cdef readonly uint32_t h2_ping_timeout_ms   # for its answer
    cdef readonly uint32_t h2_window        # of a stream, at most: bytes that come before its session took them
    cdef readonly object group              # part of the pool's key: peers of different groups share no connection
    cdef readonly object tls                # the UpstreamTls it was given, None: plain
    cdef ClientContext context              # of tls
    cdef readonly str server_name           # sent as SNI, and what the certificate must be for; None: the IP address
    cdef bytes sni                          # the same as sent, None: none
    cdef tuple host_names                   # names that the certificate may be for
    # What decides whether a connection may serve two peers, compared in full by the pool (DESIGN rule 6).
    cdef object key

    cdef readonly object transport          # what opens connections in place of the kernel, None: nothing
    cdef readonly str proxy_protocol        # "v1" or "v2": connections begin with a header of it; None
    cdef int be_plain(self, Address address) except -1     # with the default options
    cdef int be_like(self, HttpPeer other) except -1
    # Each in seconds, None: as it is; first_byte and write follow `read` unless they differ from it already.
    cdef int set_times(self, object connect, object read, object first_byte, object write, object total,
                       object idle) except -1
    # A new non-blocking socket whose connect has begun: writable when it is over. -1: it failed at once, see errno.
    cdef int dial(self) noexcept
    # The header that introduces the client of the connection `fd`, None without proxy_protocol. It is part of the key
    # of the pool: a connection serves one client only.
    cdef bytes greeting(self, int fd, ProxyProtocol introduction)
    # None: as it is
    cdef int set_http2(self, object protocol, object max_streams, object max_connections, object ping_interval,
                       object ping_timeout, object window) except -1
    cdef int make_key(self) except -1       # after all others
    # A transport over the connected or connecting socket `fd`, which it takes over unless it raises.
    # `h1_only`: it offers nothing else.
    cdef Transport new_transport(self, int fd, bint h1_only)
    cdef int use_tls(self, object tls, str server_name) except -1
    # The peer for an endpoint with the options of its balancer, made once per endpoint.
    @staticmethod
    cdef HttpPeer of(Endpoint endpoint)


# The other half of `dial`, once the socket can be written: send what HttpPeer.greeting gave, before anything else.
# -1: it did not connect, or is broken.
cdef int finish_dial(int fd, bytes greeting) noexcept
