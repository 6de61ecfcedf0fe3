"""Peers. Owns no connection."""
cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t
from pingora_c.lib.errno cimport EINPROGRESS, errno
from pingora_c.lib.socket cimport (
    IPPROTO_TCP, MSG_NOSIGNAL, SO_ERROR, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY,
    connect as connect_socket, getsockopt, send, setsockopt, sockaddr, socket, socklen_t,
)
from pingora_c.lib.type_slots cimport Py_TYPE, PyObject, PyTypeObject, PyVectorcall_NARGS, vectorcallfunc
from pingora_c.lib.unistd cimport close
from pingora_c.net.proxy_protocol cimport introduce
from pingora_c.net.transport cimport PlainTransport, Tie
from pingora_c.upstream.address cimport Address

PROTOCOLS = ("h1", "h2", "h2h1")     # in the order of PeerProtocol


cdef int finish_dial(int fd, bytes greeting) noexcept:
    cdef int error = 0
    cdef socklen_t size = sizeof(error)
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size)
    if error:
        return -1
    # A socket that has just connected has room for it: less than all means that it is broken.
    if greeting is None:
        return 0
    return 0 if send(fd, PyBytes_AS_STRING(greeting), PyBytes_GET_SIZE(greeting), MSG_NOSIGNAL) == (
        PyBytes_GET_SIZE(greeting)) else -1


cdef int64_t to_ms(object seconds, str name) except -1:
    cdef double value
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"{name}: expected a number of seconds, got {seconds!r}")
    value = seconds
    if not 0.001 <= value <= 86400:
        raise ValueError(f"{name}: expected 0.001 to 86400 seconds, got {seconds!r}")
    return <int64_t>(value * 1000)


cdef enum:
    CONNECT_MS = 5000
    READ_MS = 60000
    HEAD_MS = 30000
    IDLE_MS = 60000
    PING_MS = 10000
    MAX_H2_STREAMS = 100
    MAX_H2_CONNECTIONS = 100
    H2_WINDOW = 262144


@cython.final
cdef class PeerKey:
    def __hash__(self):
        return self.number

    def __eq__(self, other):
        return isinstance(other, PeerKey) and self.parts == (<PeerKey>other).parts


cdef PeerKey key_of(tuple parts):
    cdef PeerKey key = PeerKey.__new__(PeerKey)
    key.parts = parts
    key.number = hash(parts)
    return key


@cython.final
cdef class HttpPeer:
    """An origin server: an `Endpoint` chosen by a balancer, or "ip:port", "[ipv6]:port", "unix:/path".

    Times are in seconds: to connect (5), between reads of the answer (60), from the first byte of its head to the last
    (30), to its first byte and without progress in sending the request (both as `read_timeout` if not given), from the
    connect to the answer's end (no limit if not given), and unused in the pool (60). What is not given is for an
    `Endpoint` as the `peer` of its LoadBalancer says.
    Peers of different `group` (any hashable) share no connection. `tls` is an UpstreamTls, None: plain; `server_name`
    goes before that of `tls`. `proxy_protocol` ("v1" or "v2") has each connection begin with a header that says who the
    client is; it serves no other one.

    `protocol` is "h1", "h2" (by ALPN; without TLS by prior knowledge) or "h2h1" (the upstream chooses by ALPN). Over
    HTTP/2 up to `max_h2_streams` requests share a connection, and there are up to `max_h2_connections`; after
    `h2_ping_interval` seconds without a byte a PING must be answered within `h2_ping_timeout`; at most `h2_window`
    bytes of an answer may wait for a slow client.

    `transport`, a Transport, opens the connections in place of the kernel.

    Raises ValueError for an address that is no literal: resolve names with a LoadBalancer.
    """

    def __init__(self, target, *, connect_timeout=None, read_timeout=None, first_byte_timeout=None, write_timeout=None,
                 total_timeout=None, idle_timeout=None, group=None, tls=None, str server_name=None,
                 str proxy_protocol=None, str protocol=None, max_h2_streams=None, max_h2_connections=None,
                 h2_ping_interval=None, h2_ping_timeout=None, h2_window=None, transport=None, head_timeout=None):
        if isinstance(target, Endpoint):
            self.be_like(HttpPeer.of(<Endpoint>target))
        elif isinstance(target, str):
            self.be_plain(Address.parse(target))
        else:
            raise TypeError(f"HttpPeer: expected an Endpoint or an address like '127.0.0.1:8080', got {target!r}")
        self.set_times(connect_timeout, read_timeout, first_byte_timeout, write_timeout, total_timeout, idle_timeout)
        if head_timeout is not None:
            self.head_timeout_ms = <uint32_t>to_ms(head_timeout, "head_timeout")
        if proxy_protocol is not None:
            if proxy_protocol not in ("v1", "v2"):
                raise ValueError(f'proxy_protocol: expected "v1" or "v2", got {proxy_protocol!r}')
            self.proxy_protocol = proxy_protocol
        if group is not None:
            self.group = group
        if transport is not None:
            self.transport = transport
        if tls is not None:
            self.use_tls(tls, server_name)
        elif self.tls is not None and (server_name is not None or group is not None):
            self.use_tls(self.tls, server_name or self.endpoint.server_name)
        self.set_http2(protocol, max_h2_streams, max_h2_connections, h2_ping_interval, h2_ping_timeout, h2_window)
        self.make_key()

    cdef int be_plain(self, Address address) except -1:
        self.address = address
        self.max_h2_streams = MAX_H2_STREAMS
        self.max_h2_connections = MAX_H2_CONNECTIONS
        self.h2_ping_timeout_ms = PING_MS
        self.h2_window = H2_WINDOW
        self.connect_timeout_ms = CONNECT_MS
        self.read_timeout_ms = self.first_byte_timeout_ms = self.write_timeout_ms = READ_MS
        self.head_timeout_ms = HEAD_MS
        self.idle_timeout_ms = IDLE_MS
        return 0

    cdef int be_like(self, HttpPeer other) except -1:
        self.address = other.address
        self.endpoint = other.endpoint
        self.connect_timeout_ms = other.connect_timeout_ms
        self.read_timeout_ms = other.read_timeout_ms
        self.head_timeout_ms = other.head_timeout_ms
        self.first_byte_timeout_ms = other.first_byte_timeout_ms
        self.write_timeout_ms = other.write_timeout_ms
        self.total_timeout_ms = other.total_timeout_ms
        self.idle_timeout_ms = other.idle_timeout_ms
        self.group = other.group
        self.tls = other.tls
        self.context = other.context
        self.server_name = other.server_name
        self.sni = other.sni
        self.host_names = other.host_names
        self.spoken = other.spoken
        self.max_h2_streams = other.max_h2_streams
        self.max_h2_connections = other.max_h2_connections
        self.h2_ping_interval_ms = other.h2_ping_interval_ms
        self.h2_ping_timeout_ms = other.h2_ping_timeout_ms
        self.h2_window = other.h2_window
        self.proxy_protocol = other.proxy_protocol
        self.transport = other.transport
        return 0

    cdef int set_times(self, object connect, object read, object first_byte, object write, object total,
                       object idle) except -1:
        cdef uint32_t before = self.read_timeout_ms
        if connect is not None:
            self.connect_timeout_ms = <uint32_t>to_ms(connect, "connect_timeout")
        if read is not None:
            self.read_timeout_ms = <uint32_t>to_ms(read, "read_timeout")
            if self.first_byte_timeout_ms == before:
                self.first_byte_timeout_ms = self.read_timeout_ms
            if self.write_timeout_ms == before:
                self.write_timeout_ms = self.read_timeout_ms
        if first_byte is not None:
            self.first_byte_timeout_ms = <uint32_t>to_ms(first_byte, "first_byte_timeout")
        if write is not None:
            self.write_timeout_ms = <uint32_t>to_ms(write, "write_timeout")
        if total is not None:
            self.total_timeout_ms = <uint32_t>to_ms(total, "total_timeout")
        if idle is not None:
            self.idle_timeout_ms = <uint32_t>to_ms(idle, "idle_timeout")
        return 0

    cdef int use_tls(self, object tls, str server_name) except -1:
        cdef tuple names
        if not hasattr(tls, "names_for"):
            raise TypeError(f"tls: expected an UpstreamTls, got {tls!r}: tls=UpstreamTls()")
        self.server_name, names = tls.names_for(server_name)
        if self.server_name is None and self.endpoint is not None:
            self.server_name, names = tls.names_for(self.endpoint.server_name)
        self.tls = tls
        self.context = <ClientContext?>tls.context
        if self.address.is_unix and not names and self.context.verifies:
            raise ValueError(f"HttpPeer {self.address.text}: TLS over a Unix socket needs a server_name")
        self.host_names = tuple([name.encode("ascii") for name in names])
        self.sni = None if self.server_name is None else self.server_name.encode("ascii")
        return 0

    cdef int set_http2(self, object protocol, object max_streams, object max_connections, object ping_interval,
                       object ping_timeout, object window) except -1:
        if protocol is not None:
            if protocol not in PROTOCOLS:
                raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
            self.spoken = <uint8_t>(<int>PROTOCOLS.index(protocol))
        if max_streams is not None:
            if not 1 <= max_streams <= 10000:
                raise ValueError(f"max_h2_streams: expected 1 to 10000, got {max_streams!r}")
            self.max_h2_streams = max_streams
        if max_connections is not None:
            if not 1 <= max_connections <= 10000:
                raise ValueError(f"max_h2_connections: expected 1 to 10000, got {max_connections!r}")
            self.max_h2_connections = max_connections
        if ping_interval is not None:
            self.h2_ping_interval_ms = <uint32_t>to_ms(ping_interval, "h2_ping_interval")
        if ping_timeout is not None:
            self.h2_ping_timeout_ms = <uint32_t>to_ms(ping_timeout, "h2_ping_timeout")
        if window is not None:
            if not 65535 <= window <= 16777216:
                raise ValueError(f"h2_window: expected 65535 to 16777216 bytes, got {window!r}")
            self.h2_window = window
        return 0

    cdef int make_key(self) except -1:
        if self.context is not None:
            self.key = (self.address.text, self.group, self.context, self.sni, self.host_names)
        else:
            self.key = self.address.text if self.group is None else (self.address.text, self.group)
            if self.spoken == PEER_H2H1:
                raise ValueError("protocol: 'h2h1' needs TLS, whose ALPN lets the upstream choose")
        if self.transport is not None:
            self.key = (self.key, self.transport)
        if self.spoken != PEER_H1:
            self.key = (self.key, self.spoken, self.max_h2_streams, self.max_h2_connections, self.h2_ping_interval_ms,
                        self.h2_ping_timeout_ms, self.h2_window)
        if isinstance(self.key, tuple):
            self.key = key_of(self.key)
        return 0

    cdef int dial(self) noexcept:
        cdef int one = 1
        cdef int fd = -1
        if self.transport is not None:
            try:
                fd = self.transport.dial(self.address.text)
            except:
                pass   # ignored: no descriptor for it, or no memory
            return fd
        fd = socket(self.address.raw.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if fd < 0:
            return -1
        if not self.address.is_unix:
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        if connect_socket(fd, <sockaddr*>&self.address.raw, self.address.raw_size) < 0 and errno != EINPROGRESS:
            close(fd)     # which leaves errno as it is unless it fails, too
            return -1
        return fd

    cdef bytes greeting(self, int fd, ProxyProtocol introduction):
        return None if self.proxy_protocol is None else introduce(fd, introduction, 1 + (self.proxy_protocol == "v2"))

    cdef Transport new_transport(self, int fd, bint h1_only):
        cdef bytes offered = None        # as the settings of TLS say
        cdef Transport transport
        cdef Tie tie = None if self.transport is None else <Tie?>self.transport.tie_of(fd)
        if self.context is None:
            transport = PlainTransport.new(fd)
        else:
            if h1_only:
                offered = b"\x08http/1.1"
            elif self.spoken == PEER_H2:
                offered = b"\x02h2"
            elif self.spoken == PEER_H2H1:
                offered = b"\x02h2\x08http/1.1"
            host = self.address.host.encode()
            transport = self.context.connect(fd, self.key, self.sni, self.host_names, host, offered)
        transport.tie = tie
        return transport

    @staticmethod
    cdef HttpPeer of(Endpoint endpoint):
        cdef HttpPeer peer
        cdef object options
        if endpoint.default_peer is None:
            peer = HttpPeer.__new__(HttpPeer)
            peer.be_plain(endpoint.address)
            peer.endpoint = endpoint
            options = endpoint.peer_options
            if options is not None:
                peer.set_times(options.connect_timeout, options.read_timeout, options.first_byte_timeout,
                               options.write_timeout, options.total_timeout, options.idle_timeout)
                peer.head_timeout_ms = <uint32_t>to_ms(options.head_timeout, "head_timeout")
                peer.proxy_protocol = options.proxy_protocol
                peer.transport = options.transport
                peer.set_http2(options.protocol, options.max_h2_streams, options.max_h2_connections,
                               options.h2_ping_interval, options.h2_ping_timeout, options.h2_window)
            if endpoint.tls is not None:
                peer.use_tls(endpoint.tls, endpoint.server_name)
            peer.set_http2(endpoint.protocol, None, None, None, None, None)
            peer.make_key()
            endpoint.default_peer = peer
        return <HttpPeer>endpoint.default_peer

    @property
    def protocol(self):
        """What is spoken: h1, h2 or h2h1."""
        return PROTOCOLS[self.spoken]

    def __repr__(self):
        return f"<HttpPeer {self.address.text}>"


cdef vectorcallfunc usual_call = (<PyTypeObject*>HttpPeer).tp_vectorcall


cdef object make_peer(object kind, PyObject* const* arguments, size_t n_arguments, PyObject* names):
    """Give an endpoint's own peer, of which nothing changes, for `HttpPeer(endpoint)`: hooks ask for each request."""
    if (names == NULL and PyVectorcall_NARGS(n_arguments) == 1
            and Py_TYPE(<object>arguments[0]) == <PyTypeObject*>Endpoint):
        return HttpPeer.of(<Endpoint>arguments[0])
    return usual_call(kind, arguments, n_arguments, names)


if usual_call != NULL:
    (<PyTypeObject*>HttpPeer).tp_vectorcall = make_peer
