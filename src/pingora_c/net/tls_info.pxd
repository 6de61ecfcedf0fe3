"""What a hook may know of a TLS connection: made once per connection, of plain values, so that it may be kept."""
cimport cython
from pingora_c.net.tls cimport TlsTransport


@cython.final
cdef class ClientCertificate:
    cdef readonly bytes der
    cdef object parsed_certificate   # of cryptography, made when first asked for
    cdef bytes field                 # what as_field() gave
    cdef bytes chain_field           # those that vouch for it, likewise; None: the context does not keep them
    # The certificate as RFC 9440 writes it.
    cdef bytes as_field(self)
    cdef object parse(self)


@cython.final
cdef class TlsInfo:
    cdef readonly str version                 # "TLSv1.3"
    cdef readonly str cipher                  # OpenSSL's name of the suite
    cdef readonly str server_name             # SNI, None: none was sent
    cdef readonly str alpn                    # None: not negotiated
    cdef readonly bint resumed
    cdef readonly str ja4                     # fingerprint of the client's software, None: not asked for
    cdef readonly ClientCertificate client_certificate   # verified; None: the client gave none


cdef TlsInfo tls_info(TlsTransport transport, bint keeps_chain)
