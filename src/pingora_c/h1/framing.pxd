"""How long a body is: RFC 9112 §6.3 as one decision over a parsed head. No bytes are read here."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.http.field cimport Field

cdef enum BodyKind:
    BODY_NONE = 0       # no body
    BODY_LENGTH = 1     # exactly `length` bytes, length > 0
    BODY_CHUNKED = 2
    BODY_CLOSE = 3      # responses only: to the end of the connection
    BODY_TUNNEL = 4     # 101 to an upgrade, or 2xx to CONNECT: raw bytes both ways

# What is to follow a request's head in place of a next request.
cdef enum:
    ASKS_UPGRADE = 1    # another protocol, where the answer is 101
    ASKS_TUNNEL = 2     # CONNECT: bytes, where the answer is 2xx

cdef struct Framing:
    uint64_t length     # for BODY_LENGTH
    uint8_t kind        # BodyKind
    uint8_t keep_alive  # the connection may carry another message after this one, as far as this head says
    # Connection names upgrade and Upgrade a protocol. In a request: one to forward, so without a body and to
    # another protocol than HTTP or TLS; ASKS_TUNNEL for a CONNECT that is served.
    uint8_t upgrade
    uint8_t has_length  # a valid Content-Length was there (also 0, also on a response to HEAD or 304)
    uint8_t expects     # requests: Expect: 100-continue before a body
    uint8_t takes_trailers  # requests: TE: trailers, named in Connection (RFC 9110 §10.1.4)
    uint8_t names_fields    # Connection names fields of this message: see h1.hop

cdef enum:
    CONNECTION_MEMBERS_MAX = 64     # of all Connection fields of a head

# Decide a request's body and persistence from its fields; HEAD_OK or a Verdict. Host is not looked at here.
cdef int request_framing(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor, Framing* framing,
) noexcept nogil

# The same for a response to a request whose method was HEAD (`to_head`), CONNECT, or which we forwarded as an upgrade
# (`to_upgrade`).
#
# A 101 that was not asked for, or names no protocol, is UNEXPECTED_TRANSFER.
cdef int response_framing(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor, uint16_t status,
    bint to_head, bint to_connect, bint to_upgrade, Framing* framing,
) noexcept nogil
