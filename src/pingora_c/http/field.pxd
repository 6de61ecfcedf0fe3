"""One header field as offsets into the bytes of its head, and the names that the core itself reads."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from pingora_c.lib.scan cimport pg_equals_lower

cdef struct Field:
    uint32_t name_at     # offset of the name's first byte
    uint32_t value_at    # offset of the value's first byte, white space around it left out
    uint32_t value_size  # bytes of the value
    uint16_t name_size   # bytes of the name, > 0 for a live field
    uint8_t known        # a KnownName, NAME_OTHER for all others
    uint8_t flags        # FIELD_… bits

cdef enum:
    FIELD_REMOVED = 1    # deleted by an edit; skipped by look-up, iteration and encoding
    FIELD_WRITTEN = 2    # by a hook, not by the sender

# Names recognised once, while the head is parsed or a field is set. Below 64, so that a head keeps the set of
# names it holds in one 64-bit mask.
cdef enum KnownName:
    NAME_OTHER = 0
    NAME_CONNECTION
    NAME_KEEP_ALIVE
    NAME_PROXY_CONNECTION
    NAME_TRANSFER_ENCODING
    NAME_CONTENT_LENGTH
    NAME_TE
    NAME_TRAILER
    NAME_UPGRADE
    NAME_HOST
    NAME_EXPECT
    NAME_DATE
    NAME_SERVER
    NAME_VIA
    NAME_FORWARDED
    NAME_X_FORWARDED_FOR
    NAME_X_FORWARDED_HOST
    NAME_X_FORWARDED_PROTO
    NAME_X_FORWARDED_PORT
    NAME_X_REAL_IP
    NAME_PROXY_AUTHENTICATE
    NAME_PROXY_AUTHORIZATION
    NAME_AUTHORIZATION
    NAME_COOKIE
    NAME_SET_COOKIE
    NAME_REFERER
    NAME_USER_AGENT
    NAME_CONTENT_TYPE
    NAME_CONTENT_ENCODING
    NAME_ACCEPT_ENCODING
    NAME_CACHE_CONTROL
    NAME_MAX_FORWARDS
    NAME_HTTP2_SETTINGS
    NAME_LOCATION
    NAME_X_REQUEST_ID
    NAME_END             # one past the last

# The KnownName of `name` (any case), NAME_OTHER if it is none. Called once per field.
cdef KnownName recognise(const char* name, size_t size) noexcept nogil

# Its text, in lower case; it is never freed.
cdef const char* known_text(uint8_t known) noexcept nogil

# Whether a name tells an origin what only a proxy in front may tell: who the client is, or what it asked for.
# X-Forwarded-*, X-Real-IP, Client-IP, True-Client-IP, X-Original-URL and their like, and Proxy; with `_`, which some
# origins read as `-`, as well. Of a known name this says nothing: those with `-` are Forwarded, X-Real-IP and most of
# X-Forwarded-*. Any case.
cdef bint is_forwarding_name(const char* name, size_t size) noexcept nogil

# Whether it is Client-Cert or Client-Cert-Chain (RFC 9440), also written with `_`. Any case.
cdef bint is_certificate_name(const char* name, size_t size) noexcept nogil

cdef inline bint is_framing_alias(const char* name, size_t size) noexcept nogil:
    """Content_Length and Transfer_Encoding, in any case: receivers that read `_` as `-`, as CGI does, would frame by
    them.
    """
    if size == 14 and name[7] == 95:
        return pg_equals_lower(name, "content", 7) and pg_equals_lower(name + 8, "length", 6)
    if size == 17 and name[8] == 95:
        return pg_equals_lower(name, "transfer", 8) and pg_equals_lower(name + 9, "encoding", 8)
    return False
