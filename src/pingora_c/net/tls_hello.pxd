"""What a client says first (RFC 8446 §4.1.2), before anything is decided."""
cimport cython
from pingora_c.lib.openssl cimport SSL


# Of plain values: it may be kept.
@cython.final
cdef class ClientHello:
    cdef readonly str server_name      # None: the client asks for none
    cdef readonly tuple alpn           # protocols that it offers
    cdef readonly tuple ciphers        # numbers of the suites that it offers, in its order
    cdef readonly tuple extensions     # numbers of its extensions, in its order
    cdef readonly tuple signature_algorithms
    cdef readonly int version          # the highest that it offers, 0x0304 for TLS 1.3


# The one host name of a hello's server_name extension (RFC 6066 §3) in lower case, without a final dot; None without
# the extension, ValueError if it is malformed. Both may be called from OpenSSL's callback only.
cdef bytes server_name_of(SSL* ssl)
cdef ClientHello read_hello(SSL* ssl, bytes server_name)
