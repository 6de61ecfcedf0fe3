"""Heads to bytes (RFC 9112 §3–§5). What is written comes from parsed fields only; framing and hop-by-hop fields are
written anew.

Room: a head fits `head_room(block)` bytes plus the start line and FIXED_ROOM for the fields that the proxy adds.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.http.field cimport Field
from pingora_c.http.header_block cimport HeaderBlock
from pingora_c.http.message cimport RequestHead, ResponseHead

cdef enum:
    FIXED_ROOM = 1024
    VIA_MOST = 100

# How the body that follows is delimited.
cdef enum BodyFraming:
    FRAME_NONE = 0       # no body, and no Content-Length is written
    FRAME_LENGTH = 1     # Content-Length: length
    FRAME_CHUNKED = 2
    FRAME_CLOSE = 3      # to the end of the connection

# Which fields tell the upstream about the client; bits. What an untrusted sender said is dropped in any case.
cdef enum ForwardedFields:
    FORWARD_NONE = 0
    FORWARD_X = 1            # X-Forwarded-For, -Host, -Proto
    FORWARD_STANDARD = 2     # Forwarded (RFC 7239)

cdef struct Outgoing:
    uint8_t framing          # BodyFraming
    uint64_t length          # for FRAME_LENGTH
    bint is_upgrade          # write Connection: upgrade and keep the Upgrade field
    bint is_connect          # requests: CONNECT, which the upstream does not hear of: the tunnel begins at once
    bint takes_trailers      # requests: write TE: trailers and name TE in Connection
    bint close               # write Connection: close
    bint keep_alive          # write Connection: keep-alive (to an HTTP/1.0 client)
    const char* client       # requests: text of the client's address for X-Forwarded-For; NULL: write none
    size_t client_size
    const char* proto        # "http" or "https"
    const char* host         # requests: written as Host where the head has none (from HTTP/1.0); NULL: none
    size_t host_size
    bint drop_expect         # requests: nothing is expected, or the proxy answered Expect itself
    uint8_t forwarded        # requests: ForwardedFields to write
    const char* via          # requests: our name in Via (RFC 9110 §7.6.3), up to VIA_MOST bytes; NULL: none is written
    size_t via_size
    bint is_trusted          # X-Forwarded-* of the sender are kept and appended to, else replaced

cdef size_t request_room(RequestHead head) noexcept
cdef size_t response_room(ResponseHead head) noexcept

# -- what other protocols' encoders of requests share

# Fields that are not copied from a message: those of one connection, those that the proxy writes itself, and what a
# sender that is not trusted must not say unless a hook says it.
cdef struct Skips:
    uint64_t known             # KnownNames, as bits
    uint64_t unless_written    # of these, those that pass if a hook wrote them
    bint aliases               # and those of which is_forwarding_name tells, unless a hook wrote them

# `hops` gets what put_added wants.
cdef Skips request_skips(RequestHead head, const Outgoing* how, int64_t* hops) noexcept
cdef bint is_left_out(const HeaderBlock* block, const Field* field, const Skips* skips) noexcept nogil
# What the proxy adds, as lines "Name: value" with CRLF: X-Forwarded-*, Forwarded, Via, Max-Forwards.
cdef char* put_added(char* out, RequestHead head, const Outgoing* how, int64_t hops) noexcept
# A member of Via for a message received over HTTP/1.<minor>, or HTTP/2: up to VIA_MOST + 4 bytes.
cdef char* put_via(char* out, uint8_t minor, const char* via, size_t size) noexcept nogil
# The target as origin form, or "*".
cdef char* put_target(char* out, RequestHead head) noexcept

# Write the head, its empty line included; return the bytes written. `out` has the room that *_room told.
cdef size_t encode_request(RequestHead head, const Outgoing* how, char* out) noexcept
cdef size_t encode_response(ResponseHead head, const Outgoing* how, char* out) noexcept

# "0CRLF", the live fields and the empty line, behind the CRLF of the chunk before unless it is the first (RFC 9112
# §7.1.2); fits trailers_room bytes.
cdef size_t trailers_room(const HeaderBlock* block) noexcept nogil
cdef size_t encode_trailers(const HeaderBlock* block, bint is_first, char* out) noexcept nogil

# "<hex size>CRLF", behind the CRLF of the chunk before unless it is the first; at most 20 bytes.
cdef size_t encode_chunk_line(uint64_t size, bint is_first, char* out) noexcept nogil
cdef const char* reason_phrase(uint16_t status) noexcept nogil
