"""uri-host [":" port], the value of Host and the authority of a target (RFC 3986 §3.2.2, RFC 9110 §7.2)."""
from libc.stddef cimport size_t

# Whether `text` is a reg-name, an IPv4 address or an IPv6 address in brackets, and perhaps a port: empty or 0–65535. No
# userinfo. Empty text is False.
cdef bint is_valid_authority(const char* text, size_t size) noexcept nogil
