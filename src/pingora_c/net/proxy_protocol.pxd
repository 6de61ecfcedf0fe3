"""What the PROXY protocol said of a connection, and how it is said of one to an upstream."""
cimport cython
from pingora_c.lib.socket cimport sockaddr_storage
from pingora_c.prelude.proxy_header cimport ProxyHeader


# Made by the core of a header that was parsed.
@cython.final
cdef class ProxyProtocol:
    cdef ProxyHeader header
    cdef readonly str source           # "ip:port", "[ip]:port", "unix:/path"; None: the connection's own are meant
    cdef readonly str destination
    cdef readonly tuple tlvs           # of (type, bytes), in order

    @staticmethod
    cdef ProxyProtocol of(const char* data, const ProxyHeader* header)
    # Whether it names a client: else the connection's own addresses are meant. `address` is then the client's.
    cdef bint client(self, sockaddr_storage* address) noexcept


# The header that introduces the client of the connection `fd` to an upstream: as `given` introduced it here, None: by
# the addresses of the socket. `version` is 1 or 2.
cdef bytes introduce(int fd, ProxyProtocol given, int version)
