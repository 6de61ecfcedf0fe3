"""uri-host [":" port], the value of Host and the authority of a target (RFC 3986 §3.2.2, RFC 9110 §7.2)."""
from libc.stddef cimport size_t

# Whether `text` is a reg-name, an IPv4 address or an IPv6 address in brackets, and perhaps a port: empty or 0–65535. No
# userinfo, nothing percent-encoded, no empty label (a dot may end the name). Empty text is False.
cdef bint is_valid_authority(const char* text, size_t size) noexcept nogil

# Make a valid authority (size > 0) the one spelling of its name: upper case becomes lower, a dot at the end of the name
# and a colon without a port go. The new size.
cdef size_t settle_authority(char* text, size_t size) noexcept nogil
