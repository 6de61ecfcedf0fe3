"""The PROXY protocol, versions 1 and 2: what a proxy in front says about a connection before its first byte
(https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt). Spans are offsets into the bytes that were parsed.

Stateless: give all bytes so far from the first one on. What was neither PROXY_INCOMPLETE stays what it is however many
bytes follow.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t
from pingora_c.base.span cimport Span

cdef enum:
    PROXY_V1_MOST = 107      # bytes of a line with its CRLF
    PROXY_V2_MOST = 4096     # bytes of a header with all that it carries; the length field could say 65551
    PROXY_ID_MOST = 128      # bytes of a unique id
    PROXY_ROOM = 128         # of what encode_proxy_header writes

cdef enum ProxyCode:
    PROXY_INCOMPLETE = 0
    PROXY_ABSENT = -1        # this is no header, whatever follows
    PROXY_BAD_LINE = -2      # version 1
    PROXY_TOO_LONG = -3
    PROXY_BAD_VERSION = -4   # version 2: another version, command or family
    PROXY_BAD_LENGTH = -5    # less than the addresses of its family take
    PROXY_BAD_TLV = -6
    PROXY_BAD_CHECKSUM = -7
    PROXY_CODE_END = -8

cdef enum ProxyFamily:
    PROXY_NONE = 0           # LOCAL, UNKNOWN or UNSPEC: the connection's own addresses are meant
    PROXY_INET = 1
    PROXY_INET6 = 2
    PROXY_UNIX = 3

cdef struct ProxyHeader:
    uint8_t version          # 1 or 2
    uint8_t family           # ProxyFamily
    bint is_local            # LOCAL: the proxy speaks for itself
    uint8_t[16] source       # PROXY_INET: 4 bytes, PROXY_INET6: 16; network order
    uint8_t[16] destination
    uint16_t source_port     # host order
    uint16_t destination_port
    Span source_path         # PROXY_UNIX: without the NULs behind it; empty: unnamed
    Span destination_path
    Span tlvs                # all of them, as they came

# Bytes of the header at the start of `data` (> 0), else a ProxyCode. `header` is filled in only then.
cdef Py_ssize_t parse_proxy_header(const char* data, size_t size, ProxyHeader* header) noexcept nogil
# The next of the type-length-value triples of `data` at or behind `at`: its end, or 0 if there is none.
cdef size_t next_tlv(const char* data, size_t size, size_t at, uint8_t* kind, Span* value) noexcept nogil
# Write a header of `header.version` without TLVs; bytes written, <= PROXY_ROOM. A family other than PROXY_INET and
# PROXY_INET6 becomes UNKNOWN, or LOCAL: the receiver takes the connection's own addresses.
cdef size_t encode_proxy_header(const ProxyHeader* header, char* out) noexcept nogil
cdef const char* proxy_reason(int code) noexcept nogil     # snake case, for logs
