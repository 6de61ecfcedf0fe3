"""WebSocket's handshake over HTTP/2, an extended CONNECT (RFC 8441 §5), and that of HTTP/1.1 (RFC 6455 §4), each made
into the other: above the protocols there is only the latter.
"""
from pingora_c.http.message cimport RequestHead, ResponseHead

# Make the head of an extended CONNECT a GET that asks to upgrade, with a key of our own. Raises MemoryError.
cdef int become_upgrade(RequestHead head) except -1
# The Sec-WebSocket-Accept that a request to upgrade asks for; None unless it has one key.
cdef bytes accept_of(RequestHead head)
# Whether a 101 has the one Sec-WebSocket-Accept that `head` asks for (RFC 6455 §4.1).
cdef bint is_accepted(RequestHead head, ResponseHead answer) except -1
# Make a 2xx answer to an extended CONNECT the fields of a 101. Raises MemoryError.
cdef int become_switch(ResponseHead head, bytes accept) except -1
