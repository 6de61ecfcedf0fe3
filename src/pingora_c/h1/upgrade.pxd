"""Upgrade (RFC 9110 §7.8): the protocols that a message offers or takes."""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from pingora_c.http.header_block cimport HeaderBlock

# Read the value of one Upgrade field: HEAD_OK, or BAD_UPGRADE for a member that is not token ["/" token].
#
# `n` grows by the members; `is_http` is set if one is a version of HTTP or TLS (h2c, HTTP/2.0, TLS/1.0): behind such a
# switch further requests would pass unread, so it is never forwarded.
cdef int read_protocols(const char* text, size_t size, uint32_t* n, bint* is_http) noexcept nogil

# Whether the first Upgrade field is `websocket`, and no other protocol.
cdef bint names_websocket(const HeaderBlock* block) noexcept nogil

# Whether all protocols that a 101 names were offered by the request (RFC 9110 §7.8).
cdef bint are_offered(const HeaderBlock* request, const HeaderBlock* response) noexcept nogil
