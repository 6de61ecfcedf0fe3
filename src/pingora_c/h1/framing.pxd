"""How long a body is: RFC 9112 §6.3 as one decision over a parsed head. No bytes are read here."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.base.span cimport Span
from pingora_c.http.field cimport Field

cdef enum BodyKind:
    BODY_NONE = 0       # no body
    BODY_LENGTH = 1     # exactly `length` bytes, length > 0
    BODY_CHUNKED = 2
    BODY_CLOSE = 3      # responses only: to the end of the connection
    BODY_TUNNEL = 4     # 101 to an upgrade, or 2xx to CONNECT: raw bytes both ways

cdef struct Framing:
    uint64_t length     # for BODY_LENGTH
    uint8_t kind        # BodyKind
    uint8_t keep_alive  # the connection may carry another message after this one, as far as this head says
    uint8_t upgrade     # Connection named upgrade and an Upgrade field is there, without h2c (requests, 101)
    uint8_t has_length  # a valid Content-Length was there (also 0, also on a response to HEAD or 304)

cdef enum FramingError:
    FRAMING_OK = 0
    FRAMING_BAD_LENGTH = -1         # 400 / 502: not 1*DIGIT, overflow of 63 bits, list, or repeated
    FRAMING_BAD_CODING = -2         # 400: chunked not exactly once and alone
    FRAMING_UNKNOWN_CODING = -3     # 501: a transfer coding other than chunked
    FRAMING_BOTH = -4               # 400 / 502: Content-Length beside Transfer-Encoding
    FRAMING_CODING_IN_HTTP10 = -5   # 400 / 502: Transfer-Encoding in an HTTP/1.0 message
    FRAMING_NO_HOST = -6            # 400: HTTP/1.1 request without Host
    FRAMING_MANY_HOSTS = -7         # 400
    FRAMING_BAD_HOST = -8           # 400: not uri-host [":" port] (RFC 9110 §7.2), userinfo, bad port
    FRAMING_BAD_CONNECTION = -9     # 400 / 502: a Connection member that is no token, or too many members
    FRAMING_BAD_TARGET = -10        # 400: target form not allowed for the method (RFC 9112 §3.2)
    # 502: Transfer-Encoding on 1xx or 204 (RFC 9112 §6.1), Content-Length on 1xx/204 with a value other than 0
    FRAMING_UNEXPECTED_TRANSFER = -11

cdef enum:
    CONNECTION_MEMBERS_MAX = 64     # of all Connection fields of a head

# Decide a request's body and persistence from its fields; FRAMING_OK or a FramingError. Host is not looked at here.
cdef int request_framing(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor, Framing* framing,
) noexcept nogil

# The same for a response to a request whose method was HEAD (`to_head`), CONNECT, or which we forwarded as an upgrade
# (`to_upgrade`).
#
# A 101 that was not asked for is FRAMING_UNEXPECTED_TRANSFER.
cdef int response_framing(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor, uint16_t status,
    bint to_head, bint to_connect, bint to_upgrade, Framing* framing,
) noexcept nogil

# Exactly one valid Host in an HTTP/1.1 request, at most one in HTTP/1.0 (RFC 9112 §3.2). FRAMING_OK or a FramingError.
cdef int check_host(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor,
) noexcept nogil

# Check a request target's form against its method (RFC 9112 §3.2): "/…" always, "http://…" and "https://…" with a valid
# authority but for CONNECT, "*" for OPTIONS alone, authority with a port for CONNECT alone. FRAMING_OK or
# FRAMING_BAD_TARGET.
#
# `authority` becomes the span, from `target`, of the authority in it; it replaces Host (RFC 9112 §3.2.2). Size 0: none.
cdef int check_target(
    const char* method, size_t method_size, const char* target, size_t size, Span* authority,
) noexcept nogil

# uri-host [":" port] of RFC 3986 §3.2.2: reg-name, IPv4 or bracketed IPv6 literal; port empty or 0–65535; no
# userinfo. Empty text is False.
cdef bint is_valid_authority(const char* text, size_t size) noexcept nogil

# Status for a client's bad request: 400 or 501.
cdef int framing_error_status(int error) noexcept nogil

cdef const char* framing_error_reason(int error) noexcept nogil
