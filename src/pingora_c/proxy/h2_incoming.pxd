"""A request of HTTP/2 as the neutral head (RFC 9113 §8.3.1): what a decoded field section says, by the same rules as
docs/http1.md has for HTTP/1. nghttp2 has checked the grammar of names and values, the order of pseudo fields and that
no field of a connection is there.
"""
from libc.stdint cimport uint32_t
from pingora_c.h1.framing cimport Framing
from pingora_c.h2.section cimport FieldSection
from pingora_c.http.message cimport RequestHead

# Fill `head` and `framing` from a section that `is_end`, END_STREAM, may come with. 0, or a Refusal.
#
# `is_https`: a scheme of https is believed. An extended CONNECT for WebSocket (RFC 8441) becomes the GET with Upgrade
# that it stands for: framing.upgrade is set, and what comes on the stream waits for the switch. Another CONNECT is
# refused unless `takes_connect`.
cdef int read_request(
    const FieldSection* section, bint is_end, bint is_https, bint takes_connect, uint32_t target_bytes,
    RequestHead head, Framing* framing,
) noexcept
