"""A socket address parsed once: IPv4, IPv6 or Unix path. Names are not resolved here."""
cimport cython
from libc.stdint cimport uint16_t, uint32_t
from pingora_c.lib.socket cimport sockaddr_storage, socklen_t


@cython.final
cdef class Address:
    cdef sockaddr_storage raw      # ready for connect() and bind()
    cdef socklen_t raw_size        # bytes of raw that count
    cdef readonly str text         # canonical: "127.0.0.1:80", "[::1]:80", "unix:/path"; decides equality and hash
    cdef readonly bint is_unix
    cdef readonly bint is_dual_stack   # made from ":port" as "[::]:port": the listener clears IPV6_V6ONLY
    cdef readonly uint16_t port    # 0 for Unix

    # Parse "host:port" with an IP literal, "[v6]:port" or "unix:/path" (also "unix:@name", abstract).
    #
    # The port is 1–65535. Zone ids are refused. IPv4-mapped IPv6 addresses become IPv4, here and in `from_raw`.
    # Raises ValueError that says what was expected.
    @staticmethod
    cdef Address parse(str text)

    # The same for a listener: port 0 is allowed, and ":port" means all interfaces: "[::]", or "0.0.0.0" where the
    # kernel has no IPv6.
    @staticmethod
    cdef Address parse_listen(str text)

    # From what accept4 or getsockname filled in; `size` <= sizeof(sockaddr_storage). Raises ValueError for a family
    # that is none of the three.
    @staticmethod
    cdef Address from_raw(const sockaddr_storage* raw, socklen_t size)


# (host, port) of "host:port" or "[v6]:port"; brackets stay on. The host may be a name or, for a listener, empty.
# Raises ValueError.
cdef tuple split_host_port(str text, bint is_listen)
