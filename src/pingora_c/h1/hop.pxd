"""Fields of one connection (RFC 9110 §7.6.1): those that Connection names are removed when a message arrives, so that
no hook, rule or log reads what does not go on, and what a hook adds cannot be named away.
"""
from pingora_c.http.header_block cimport HeaderBlock

# Remove the fields of `block` that the Connection fields of `head` name; `block` is the head's own or that of its
# trailers. What frames a message, Host, Date and the fields that tell who forwarded it cannot be named away.
cdef void remove_named(HeaderBlock* block, const HeaderBlock* head) noexcept nogil
