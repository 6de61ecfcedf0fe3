"""The first message of a TLS client, read without a key: which name and protocols it asks for (RFC 8446 §4.1.2).

Stateless: give all bytes so far from the first on. What was neither HELLO_INCOMPLETE stays what it is however many
bytes follow.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from pingora_c.base.span cimport Span

cdef enum:
    HELLO_MOST = 16384       # bytes of the message; OpenSSL takes no larger one either
    HELLO_RECORDS_MOST = 64  # that it may be spread over

cdef enum HelloCode:
    HELLO_INCOMPLETE = 0
    HELLO_ABSENT = -1        # this is no TLS, whatever follows
    HELLO_BAD = -2
    HELLO_TOO_LONG = -3

cdef struct Hello:
    Span server_name         # of the host name (RFC 6066 §3), size 0: none is asked for
    Span alpn                # the list of protocols, each behind its length (RFC 7301 §3.1), size 0: none

# Bytes of the message with its record headers (> 0), else a HelloCode. The message itself is put into `message`, which
# has room for HELLO_MOST bytes; spans are offsets into it.
cdef Py_ssize_t parse_client_hello(const char* data, size_t size, char* message, Hello* hello) noexcept nogil
