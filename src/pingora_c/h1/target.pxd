"""Whom a request is for: the form of its target and its Host (RFC 9112 §3.2, RFC 9110 §7.2)."""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from pingora_c.base.span cimport Span
from pingora_c.http.field cimport Field
from pingora_c.http.message cimport RequestHead

cdef enum:
    HTTPS_SIZE = 8      # of "https://"

# Exactly one valid Host in an HTTP/1.1 request, at most one in HTTP/1.0 (RFC 9112 §3.2). HEAD_OK or a Verdict.
cdef int check_host(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor,
) noexcept nogil

# Check a request target's form against its method (RFC 9112 §3.2): "/…" always, "http://…" and "https://…" with a valid
# authority but for CONNECT, "*" for OPTIONS alone, authority with a port for CONNECT alone. HEAD_OK or
# BAD_TARGET_FORM.
#
# `authority` becomes the span, from `target`, of the authority in it; it replaces Host (RFC 9112 §3.2.2). Size 0: none.
# authority.at is HTTPS_SIZE for an https target.
cdef int check_target(
    const char* method, size_t method_size, const char* target, size_t size, Span* authority,
) noexcept nogil

# Make Host of a loaded head the one name that rules, hooks and the upstream read: an absolute target's `authority`
# replaces it, and settle_authority its spelling. 0, or a BlockError without memory.
cdef int settle_host(RequestHead head, Span authority) noexcept
