"""Facts about a TLS connection. Own copies only."""
cimport cython

import base64
import hashlib

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from pingora_c.lib.openssl cimport (
    SSL_CIPHER_get_name, SSL_get0_alpn_selected, SSL_get0_peer_certificate, SSL_get0_verified_chain,
    SSL_get_current_cipher, SSL_get_version, SSL_session_reused, STACK_OF_X509, X509, i2d_X509, sk_X509_num,
    sk_X509_value,
)


cdef bytes der_of(X509* certificate):
    cdef int size = i2d_X509(certificate, NULL)
    cdef bytes der = PyBytes_FromStringAndSize(NULL, size)
    cdef unsigned char* out = <unsigned char*>PyBytes_AS_STRING(der)
    i2d_X509(certificate, &out)
    return der


cdef bytes peer_certificate(TlsTransport transport):
    cdef X509* certificate = SSL_get0_peer_certificate(transport.ssl)
    return None if certificate == NULL else der_of(certificate)


cdef bytes byte_sequence(bytes der):
    """A byte sequence (RFC 8941 §3.3.5), as RFC 9440 §2.1 encodes certificates."""
    return b":" + base64.b64encode(der) + b":"


cdef bytes verified_chain(TlsTransport transport):
    """All behind the client's own, each the issuer of the one before it; None after a resumption."""
    cdef STACK_OF_X509* chain = SSL_get0_verified_chain(transport.ssl)
    cdef int i
    if chain == NULL or sk_X509_num(chain) < 2:
        return None
    return b", ".join([byte_sequence(der_of(sk_X509_value(chain, i))) for i in range(1, sk_X509_num(chain))])


cdef TlsInfo tls_info(TlsTransport transport, bint keeps_chain):
    cdef TlsInfo made = TlsInfo.__new__(TlsInfo)
    cdef const unsigned char* protocol = NULL
    cdef unsigned int size = 0
    cdef bytes der = peer_certificate(transport)
    made.version = SSL_get_version(transport.ssl).decode("ascii")
    made.cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(transport.ssl)).decode("ascii")
    if transport.server_name is not None:
        made.server_name = transport.server_name.decode("ascii", "replace")
    SSL_get0_alpn_selected(transport.ssl, &protocol, &size)
    if size:
        made.alpn = (<const char*>protocol)[:size].decode("ascii", "replace")
    made.ja4 = transport.ja4
    made.resumed = SSL_session_reused(transport.ssl) == 1
    if der is not None:
        made.client_certificate = ClientCertificate(der)
        if keeps_chain:
            made.client_certificate.chain_field = verified_chain(transport)
    return made


@cython.final
cdef class ClientCertificate:
    """A certificate that the client proved to have and that was verified: against the CA, the dates and the CRL."""

    def __init__(self, bytes der not None):
        self.der = der

    @property
    def fingerprint(self):
        """SHA-256 of the certificate, in hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def subject(self):
        """The subject as RFC 4514 writes it, "CN=alice,O=Example"."""
        return self.parse().subject.rfc4514_string()

    @property
    def common_name(self):
        """The subject's first common name, or None."""
        from cryptography.x509.oid import NameOID

        found = self.parse().subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(found[0].value) if found else None

    @property
    def names(self):
        """Subject alternative names: DNS names, mail addresses, URIs and IP addresses, in the certificate's order."""
        from cryptography import x509

        try:
            found = self.parse().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ()
        return tuple([str(name.value) for name in found
                      if isinstance(name, (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier,
                                           x509.IPAddress))])

    @property
    def parsed(self):
        """The same as `cryptography.x509.Certificate`."""
        return self.parse()

    cdef bytes as_field(self):
        if self.field is None:
            self.field = byte_sequence(self.der)
        return self.field

    cdef object parse(self):
        if self.parsed_certificate is None:
            from cryptography import x509

            self.parsed_certificate = x509.load_der_x509_certificate(self.der)
        return self.parsed_certificate

    def __repr__(self):
        return f"<ClientCertificate {self.subject}>"


@cython.final
cdef class TlsInfo:
    """The encryption of a client's connection. Made by the core."""

    def __repr__(self):
        return f"<TlsInfo {self.version} {self.cipher} server_name={self.server_name!r}>"
