"""A socket address parsed once: IPv4, IPv6 or Unix path. Names are not resolved here."""
from libc.stdint cimport uint16_t, uint32_t
from pingora_c.lib.socket cimport sockaddr_storage, socklen_t


cdef class Address:
    cdef sockaddr_storage raw      # ready for connect() and bind()
    cdef socklen_t raw_size        # bytes of raw that count
    cdef readonly str text         # canonical: "127.0.0.1:80", "[::1]:80", "unix:/path"
    cdef readonly bint is_unix
    cdef readonly uint16_t port    # 0 for Unix

    # Parse "host:port" with an IP literal, "[v6]:port" or "unix:/path" (also "unix:@name", abstract). Raises ValueError that says what was expected.
    @staticmethod
    cdef Address parse(str text)
    # From what accept4 or getsockname filled in.
    @staticmethod
    cdef Address from_raw(const sockaddr_storage* raw, socklen_t size)
