"""Socket addresses: text to sockaddr and back.

Owns the grammar of addresses in configuration and the canonical text that logs, pool keys and equality use.
Never resolves a name, never opens a connection.
"""
import os

from libc.stddef cimport size_t
from libc.string cimport memcmp, memcpy, memset
from posix.unistd cimport close

from pingora_c.lib.socket cimport (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    SOCK_CLOEXEC,
    SOCK_STREAM,
    htons,
    inet_ntop,
    inet_pton,
    ntohs,
    sockaddr_in,
    sa_family_t,
    sockaddr_in6,
    sockaddr_un,
    socket,
)

cdef enum:
    TEXT_MAX = 46                                   # INET6_ADDRSTRLEN
    UNIX_PATH_AT = sizeof(sa_family_t)              # offset of sun_path on Linux
    UNIX_PATH_MAX = 107                             # bytes of sun_path but for its final NUL

cdef const unsigned char* MAPPED_PREFIX = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"   # ::ffff:0:0/96 (RFC 4291 §2.5.5.2)

cdef int ipv6_support = -1                          # -1: not asked yet


cdef bint has_ipv6() noexcept:
    """True if the kernel opens IPv6 sockets (it does not after a boot with ipv6.disable=1)."""
    global ipv6_support
    cdef int fd
    if ipv6_support < 0:
        fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)
        ipv6_support = fd >= 0
        if fd >= 0:
            close(fd)
    return ipv6_support


cdef tuple split_host_port(str text, bint is_listen):
    cdef str host, port
    if "://" in text:
        raise ValueError(f"address {text!r}: expected 'host:port' without a scheme")
    host, _, port = text.rpartition(":")
    if "%" in host:
        raise ValueError(f"address {text!r}: IPv6 zone ids are not supported")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"address {text!r}: expected an IPv6 address in brackets, as in '[::1]:80'")
    if not host and not (is_listen and text.startswith(":")):
        raise ValueError(f"address {text!r}: expected 'host:port', '[ipv6]:port' or 'unix:/path'")
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ValueError(f"address {text!r}: expected a decimal port after the last colon")
    number = int(port)
    if number > 65535 or (number == 0 and not is_listen):
        raise ValueError(f"address {text!r}: port {number} is outside {0 if is_listen else 1}–65535")
    return host, number


cdef Address new_ipv4(const void* octets, uint16_t port):
    """`octets`: 4 bytes in network order."""
    cdef Address address = Address.__new__(Address)
    cdef sockaddr_in* raw = <sockaddr_in*>&address.raw
    cdef char text[TEXT_MAX]
    raw.sin_family = <sa_family_t>AF_INET
    raw.sin_port = htons(port)
    memcpy(&raw.sin_addr, octets, 4)
    inet_ntop(AF_INET, octets, text, TEXT_MAX)
    address.raw_size = sizeof(sockaddr_in)
    address.port = port
    address.text = f"{(<bytes>text).decode('ascii')}:{port}"
    return address


cdef Address new_ipv6(const void* octets, uint16_t port, uint32_t scope_id):
    """`octets`: 16 bytes in network order. The zone stays in `raw` only: its number means nothing outside this host."""
    cdef Address address
    cdef sockaddr_in6* raw
    cdef char text[TEXT_MAX]
    if memcmp(octets, MAPPED_PREFIX, 12) == 0:
        return new_ipv4(<const char*>octets + 12, port)
    address = Address.__new__(Address)
    raw = <sockaddr_in6*>&address.raw
    raw.sin6_family = <sa_family_t>AF_INET6
    raw.sin6_port = htons(port)
    raw.sin6_scope_id = scope_id
    memcpy(&raw.sin6_addr, octets, 16)
    inet_ntop(AF_INET6, octets, text, TEXT_MAX)
    address.raw_size = sizeof(sockaddr_in6)
    address.port = port
    address.text = f"[{(<bytes>text).decode('ascii')}]:{port}"
    return address


cdef Address new_unix(bytes path):
    """`path`: as in sun_path, at most UNIX_PATH_MAX bytes; abstract if its first byte is NUL, unnamed if empty."""
    cdef Address address = Address.__new__(Address)
    cdef sockaddr_un* raw = <sockaddr_un*>&address.raw
    cdef size_t size = len(path)
    raw.sun_family = <sa_family_t>AF_UNIX
    memcpy(raw.sun_path, <const char*>path, size)
    # The length of an abstract name counts; a path is followed by a NUL that counts too.
    address.raw_size = <socklen_t>(UNIX_PATH_AT + size + (size > 0 and path[0] != 0))
    address.is_unix = True
    address.text = "unix:" + os.fsdecode(path.replace(b"\0", b"@"))
    return address


cdef Address parse_unix(str text):
    cdef bytes path = os.fsencode(text[5:])
    if path.startswith(b"@"):
        path = b"\0" + path[1:]
        if len(path) == 1:
            raise ValueError(f"address {text!r}: expected a name after '@'")
    elif not path.startswith(b"/"):
        raise ValueError(f"address {text!r}: expected 'unix:' and an absolute path, or 'unix:@' and a name")
    if b"\0" in path[1:]:
        raise ValueError(f"address {text!r}: a NUL byte in the path")
    if len(path) > UNIX_PATH_MAX:
        raise ValueError(f"address {text!r}: the path has {len(path)} bytes, at most {UNIX_PATH_MAX} are possible")
    return new_unix(path)


cdef Address parse_any_interface(uint16_t port):
    cdef unsigned char octets[16]
    cdef Address address
    memset(octets, 0, 16)
    if not has_ipv6():
        return new_ipv4(octets, port)
    address = new_ipv6(octets, port, 0)
    address.is_dual_stack = True
    return address


cdef Address parse_text(str text, bint is_listen):
    cdef unsigned char octets[16]
    cdef str host
    cdef uint16_t port
    if text.startswith("unix:"):
        return parse_unix(text)
    host, port = split_host_port(text, is_listen)
    if not host:
        return parse_any_interface(port)
    # A NUL would end the text early for inet_pton.
    if host.isascii() and "\0" not in host:
        if host.startswith("["):
            if inet_pton(AF_INET6, host.strip("[]").encode("ascii"), octets) == 1:
                return new_ipv6(octets, port, 0)
        elif inet_pton(AF_INET, host.encode("ascii"), octets) == 1:
            return new_ipv4(octets, port)
    raise ValueError(f"address {text!r}: expected an IPv4 address or an IPv6 address in brackets, not {host!r}")


cdef class Address:
    """A socket address. Made by `parse_address`; equal if the canonical text is."""

    def __init__(self):
        raise TypeError("an Address is made by parse_address()")

    @staticmethod
    cdef Address parse(str text):
        return parse_text(text, False)

    @staticmethod
    cdef Address parse_listen(str text):
        return parse_text(text, True)

    @staticmethod
    cdef Address from_raw(const sockaddr_storage* raw, socklen_t size):
        cdef const sockaddr_in* v4 = <const sockaddr_in*>raw
        cdef const sockaddr_in6* v6 = <const sockaddr_in6*>raw
        cdef bytes path
        if size >= sizeof(sockaddr_in) and raw.ss_family == AF_INET:
            return new_ipv4(&v4.sin_addr, ntohs(v4.sin_port))
        if size >= sizeof(sockaddr_in6) and raw.ss_family == AF_INET6:
            return new_ipv6(&v6.sin6_addr, ntohs(v6.sin6_port), v6.sin6_scope_id)
        if UNIX_PATH_AT <= size <= sizeof(sockaddr_un) and raw.ss_family == AF_UNIX:
            path = (<const char*>(<const sockaddr_un*>raw).sun_path)[:size - UNIX_PATH_AT]
            if not path.startswith(b"\0"):
                path = path.partition(b"\0")[0]
            return new_unix(path[:UNIX_PATH_MAX])
        raise ValueError(f"socket address of family {raw.ss_family} and {size} bytes: expected IPv4, IPv6 or Unix")

    @property
    def host(self):
        """The IP address without port and brackets, or the path of a Unix socket."""
        if self.is_unix:
            return self.text[5:]
        return self.text.rpartition(":")[0].strip("[]")

    def __eq__(self, other):
        return type(other) is Address and self.text == (<Address>other).text

    def __hash__(self):
        return hash(self.text)

    def __str__(self):
        return self.text

    def __repr__(self):
        return f"<Address {self.text}>"


def parse_address(str text not None, bint is_listen=False):
    """Parse "ip:port", "[ipv6]:port", "unix:/path" or "unix:@abstract"; for a listener (`is_listen`) also ":port".

    Raises ValueError that says what was expected. Names are not resolved.
    """
    return parse_text(text, is_listen)


def parse_host_port(str text not None):
    """Split a peer's "host:port" into host, which may be a name, and port (1–65535). Raises ValueError."""
    return split_host_port(text, False)


def rebuild_address(Address address not None):
    """Make an address from the sockaddr of `address`, as the core does after accept: equal to it."""
    return Address.from_raw(&address.raw, address.raw_size)
