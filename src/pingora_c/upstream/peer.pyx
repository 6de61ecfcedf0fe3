"""Peers. Owns no connection."""
cimport cython

from libc.stdint cimport int64_t

from pingora_c.net.transport cimport PlainTransport
from pingora_c.upstream.address cimport Address


cdef int64_t to_ms(object seconds, str name) except -1:
    cdef double value = seconds
    if not 0.001 <= value <= 86400:
        raise ValueError(f"{name}: expected 0.001 to 86400 seconds, got {seconds!r}")
    return <int64_t>(value * 1000)


@cython.final
cdef class HttpPeer:
    """An origin server: an `Endpoint` chosen by a balancer, or "ip:port", "[ipv6]:port", "unix:/path".

    Times are in seconds: to connect, between reads of the answer, to its first byte and without progress in sending
    the request (both as `read_timeout` if not given), from the connect to the answer's end (None: no limit), and
    unused in the pool. Peers of different `group` (any hashable) share no connection. `tls` is an UpstreamTls, None:
    plain; `server_name` goes before that of `tls`. Raises ValueError for an address that is no literal: resolve names
    with a LoadBalancer.
    """

    def __init__(self, target, *, connect_timeout=5.0, read_timeout=60.0, first_byte_timeout=None, write_timeout=None,
                 total_timeout=None, idle_timeout=60.0, group=None, tls=None, str server_name=None):
        if isinstance(target, Endpoint):
            self.endpoint = <Endpoint>target
            self.address = self.endpoint.address
        elif isinstance(target, str):
            self.address = Address.parse(target)
        else:
            raise TypeError(f"HttpPeer: expected an Endpoint or an address like '127.0.0.1:8080', got {target!r}")
        self.connect_timeout_ms = <uint32_t>to_ms(connect_timeout, "connect_timeout")
        self.read_timeout_ms = self.first_byte_timeout_ms = self.write_timeout_ms = <uint32_t>to_ms(
            read_timeout, "read_timeout")
        if first_byte_timeout is not None:
            self.first_byte_timeout_ms = <uint32_t>to_ms(first_byte_timeout, "first_byte_timeout")
        if write_timeout is not None:
            self.write_timeout_ms = <uint32_t>to_ms(write_timeout, "write_timeout")
        if total_timeout is not None:
            self.total_timeout_ms = <uint32_t>to_ms(total_timeout, "total_timeout")
        self.idle_timeout_ms = <uint32_t>to_ms(idle_timeout, "idle_timeout")
        self.group = group
        self.key = self.address.text if group is None else (self.address.text, group)
        if tls is None and self.endpoint is not None:
            tls = self.endpoint.tls
            server_name = server_name or self.endpoint.server_name
        if tls is not None:
            self.use_tls(tls, server_name)

    cdef int use_tls(self, object tls, str server_name) except -1:
        cdef tuple names
        self.server_name, names = tls.names_for(server_name)
        self.tls = tls
        self.context = <ClientContext?>tls.context
        if self.address.is_unix and not names and self.context.verifies:
            raise ValueError(f"HttpPeer {self.address.text}: TLS over a Unix socket needs a server_name")
        self.host_names = tuple([name.encode("ascii") for name in names])
        if self.server_name is not None:
            self.sni = self.server_name.encode("ascii")
        self.key = (self.address.text, self.group, self.context, self.sni, self.host_names)
        return 0

    cdef Transport new_transport(self, int fd):
        if self.context is None:
            return PlainTransport.new(fd)
        return self.context.connect(fd, self.key, self.sni, self.host_names, self.address.host.encode())

    @staticmethod
    cdef HttpPeer of(Endpoint endpoint):
        if endpoint.default_peer is None:
            endpoint.default_peer = HttpPeer(endpoint)
        return <HttpPeer>endpoint.default_peer

    def __repr__(self):
        return f"<HttpPeer {self.address.text}>"
