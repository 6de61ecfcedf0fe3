"""SSL_CTX objects: what servers and clients set alike. Set-up only; errors are ValueErrors with OpenSSL's reason."""
from pingora_c.lib.openssl cimport SSL_CTX

# Versions, ciphers and groups that a side allows, frozen.
cdef class TlsRules:
    cdef int version_min           # TLS1_2_VERSION or TLS1_3_VERSION
    cdef int version_max
    cdef readonly bytes ciphers    # of TLS 1.2, an OpenSSL cipher list
    cdef readonly bytes suites     # of TLS 1.3, separated by colons
    cdef readonly bytes groups     # the first of the lists given that the linked OpenSSL knows

    cdef SSL_CTX* new_ctx(self) except NULL

# Present the certificate `chain` (DER, the leaf first) with its `key` (DER, PKCS #8 or traditional).
cdef int use_certificate(SSL_CTX* ctx, tuple chain, bytes key) except -1
# Verify the other side by the certificates `ca` and the revocation lists `crls` (both DER). With lists, a certificate
# whose issuer has none is refused.
cdef int trust(SSL_CTX* ctx, tuple ca, tuple crls, bint names_ca) except -1
