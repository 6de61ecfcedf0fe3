"""Introductions by the PROXY protocol. Own copies of what a header carried."""
cimport cython

import os

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcmp, memcpy, memset
from pingora_c.base.span cimport Span
from pingora_c.lib.socket cimport (
    AF_INET, AF_INET6, AF_UNIX, getpeername, getsockname, htons, inet_ntop, ntohs, sockaddr, sockaddr_in, sockaddr_in6,
    socklen_t,
)
from pingora_c.prelude.proxy_header cimport (
    PROXY_INET, PROXY_INET6, PROXY_NONE, PROXY_ROOM, PROXY_UNIX, encode_proxy_header, next_tlv,
)

cdef enum:
    TLV_ALPN = 0x01
    TLV_AUTHORITY = 0x02
    TLV_UNIQUE_ID = 0x05

cdef const char* V4_MAPPED = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"


cdef str place_text(int family, const uint8_t* host, uint16_t port):
    cdef char text[46]
    inet_ntop(AF_INET if family == PROXY_INET else AF_INET6, host, text, sizeof(text))
    address = (<bytes>text).decode("ascii")
    return f"[{address}]:{port}" if family == PROXY_INET6 else f"{address}:{port}"


cdef str path_text(const char* data, Span span):
    return "unix:" + os.fsdecode(data[span.at:span.at + span.size].replace(b"\0", b"@"))


@cython.final
cdef class ProxyProtocol:
    """How a proxy in front introduced a client, by the PROXY protocol. Made by the core."""

    @staticmethod
    cdef ProxyProtocol of(const char* data, const ProxyHeader* header):
        cdef ProxyProtocol made = ProxyProtocol.__new__(ProxyProtocol)
        cdef list tlvs = []
        cdef size_t at = header.tlvs.at
        cdef uint8_t kind = 0
        cdef Span value
        made.header = header[0]
        if header.family == PROXY_UNIX:
            made.source = path_text(data, header.source_path)
            made.destination = path_text(data, header.destination_path)
        elif header.family != PROXY_NONE:
            made.source = place_text(header.family, made.header.source, header.source_port)
            made.destination = place_text(header.family, made.header.destination, header.destination_port)
        while True:
            at = next_tlv(data, header.tlvs.at + header.tlvs.size, at, &kind, &value)
            if at == 0:
                break
            tlvs.append((kind, data[value.at:value.at + value.size]))
        made.tlvs = tuple(tlvs)
        return made

    cdef bint client(self, sockaddr_storage* address) noexcept:
        cdef sockaddr_in* v4 = <sockaddr_in*>address
        cdef sockaddr_in6* v6 = <sockaddr_in6*>address
        memset(address, 0, sizeof(sockaddr_storage))
        if self.header.family == PROXY_INET:
            address.ss_family = <unsigned short>AF_INET
            memcpy(&v4.sin_addr, self.header.source, 4)
            v4.sin_port = htons(self.header.source_port)
        elif self.header.family == PROXY_INET6:
            address.ss_family = <unsigned short>AF_INET6
            memcpy(&v6.sin6_addr, self.header.source, 16)
            v6.sin6_port = htons(self.header.source_port)
        else:
            address.ss_family = <unsigned short>AF_UNIX
        return self.header.family != PROXY_NONE

    @property
    def version(self):
        """1 or 2."""
        return self.header.version

    def tlv(self, int kind):
        """Return the first value of a type (version 2), None without one."""
        for found, value in self.tlvs:
            if found == kind:
                return value
        return None

    @property
    def authority(self):
        """The host name that the client asked the proxy in front for (SNI), None: not said."""
        name = self.tlv(TLV_AUTHORITY)
        return None if name is None else name.decode("utf-8", "replace")

    @property
    def unique_id(self):
        """What the proxy in front calls the connection, None: not said."""
        return self.tlv(TLV_UNIQUE_ID)

    @property
    def alpn(self):
        """The protocol that was negotiated there, None: not said."""
        name = self.tlv(TLV_ALPN)
        return None if name is None else name.decode("latin-1")

    def __repr__(self):
        return f"<ProxyProtocol v{self.header.version} {self.source} -> {self.destination}>"


cdef int read_address(const sockaddr_storage* address, uint8_t* host, uint16_t* port) noexcept:
    """Host and port of a socket's address; a ProxyFamily."""
    cdef const sockaddr_in* v4 = <const sockaddr_in*>address
    cdef const sockaddr_in6* v6 = <const sockaddr_in6*>address
    if address.ss_family == AF_INET:
        memcpy(host, &v4.sin_addr, 4)
        port[0] = ntohs(v4.sin_port)
        return PROXY_INET
    if address.ss_family != AF_INET6:
        return PROXY_NONE
    port[0] = ntohs(v6.sin6_port)
    if memcmp(&v6.sin6_addr, V4_MAPPED, 12) == 0:
        memcpy(host, <const uint8_t*>&v6.sin6_addr + 12, 4)
        return PROXY_INET
    memcpy(host, &v6.sin6_addr, 16)
    return PROXY_INET6


cdef bytes introduce(int fd, ProxyProtocol given, int version):
    cdef ProxyHeader header
    cdef sockaddr_storage address
    cdef socklen_t size = sizeof(address)
    cdef char out[PROXY_ROOM]
    memset(&header, 0, sizeof(header))
    if given is not None and (given.header.family == PROXY_INET or given.header.family == PROXY_INET6):
        header = given.header
    elif given is None or given.header.family == PROXY_NONE:
        if getpeername(fd, <sockaddr*>&address, &size) != 0:
            raise ConnectionError("the client is gone")      # else whoever reads it would take us for the client
        header.family = <uint8_t>read_address(&address, header.source, &header.source_port)
        size = sizeof(address)
        if getsockname(fd, <sockaddr*>&address, &size) != 0 or (
                read_address(&address, header.destination, &header.destination_port) != header.family):
            header.family = PROXY_NONE
    header.version = <uint8_t>version
    return out[:encode_proxy_header(&header, out)]
