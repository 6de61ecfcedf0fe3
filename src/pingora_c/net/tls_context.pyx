"""SSL_CTX objects. Own nothing but the descriptor of SSLKEYLOGFILE."""
cimport cython

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcpy, strlen
from pingora_c.lib.openssl cimport (
    ERR_clear_error, EVP_PKEY, EVP_PKEY_free, OpenSSL_version, OPENSSL_VERSION, SSL, SSL_CTX_add_client_CA,
    SSL_CTX_free, SSL_CTX_get_cert_store, SSL_CTX_new, SSL_CTX_set1_groups_list, SSL_CTX_set_cipher_list,
    SSL_CTX_set_ciphersuites, SSL_CTX_set_keylog_callback, SSL_CTX_set_max_proto_version,
    SSL_CTX_set_min_proto_version, SSL_CTX_set_mode, SSL_CTX_set_options, SSL_CTX_set_read_ahead,
    SSL_CTX_use_cert_and_key, SSL_MODE_NO_AUTO_CHAIN, SSL_MODE_RELEASE_BUFFERS, SSL_OP_CIPHER_SERVER_PREFERENCE,
    SSL_OP_NO_COMPRESSION, SSL_OP_NO_RENEGOTIATION, SSL_OP_PRIORITIZE_CHACHA, STACK_OF_X509, TLS_method, X509,
    X509_CRL, X509_CRL_free, X509_STORE, X509_STORE_add_cert, X509_STORE_add_crl, X509_STORE_set_flags,
    X509_V_FLAG_CRL_CHECK, X509_V_FLAG_CRL_CHECK_ALL, X509_free, d2i_AutoPrivateKey, d2i_X509, d2i_X509_CRL,
    free_chain, sk_X509_new_null, sk_X509_push,
)
from pingora_c.lib.unistd cimport write
from pingora_c.net.tls cimport openssl_reason

cdef enum:
    KEYLOG_LINE = 512

OPENSSL = OpenSSL_version(OPENSSL_VERSION).decode("ascii")   # of the library that is linked
cdef int keylog_fd = -1     # shared by all contexts and by forked workers, kept open to the end


cdef void write_key(const SSL* ssl, const char* line) noexcept:
    """A line of the NSS key log, in one write so that lines of several workers do not mix."""
    cdef char text[KEYLOG_LINE]
    cdef size_t size = strlen(line)
    if size < KEYLOG_LINE:
        memcpy(text, line, size)
        text[size] = 10
        if write(keylog_fd, text, size + 1) < 0:
            pass   # ignored: a full disk loses keys for the debugger, not a connection


cdef int open_keylog() except -2:
    """The descriptor of the file that SSLKEYLOGFILE names, -1 if the variable is not set."""
    global keylog_fd
    path = os.environ.get("SSLKEYLOGFILE")
    if path and keylog_fd < 0:
        keylog_fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return keylog_fd


cdef X509* read_certificate(bytes der) except NULL:
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(der)
    cdef X509* certificate = d2i_X509(NULL, &at, PyBytes_GET_SIZE(der))
    if certificate == NULL:
        raise ValueError(f"not a certificate: {openssl_reason()}")
    return certificate


@cython.final
cdef class TlsRules:
    """What a side allows. `versions` are (lowest, highest), each 0x0303 (TLS 1.2) or 0x0304 (1.3).

    Of the lists `groups` the first counts that the linked OpenSSL knows.
    """

    def __init__(self, *, tuple versions, bytes ciphers, bytes suites, tuple groups):
        cdef SSL_CTX* ctx
        self.version_min, self.version_max = versions
        self.ciphers = ciphers
        self.suites = suites
        for self.groups in groups:
            try:
                ctx = self.new_ctx()
            except ValueError:
                if self.groups is groups[len(groups) - 1]:
                    raise
            else:
                SSL_CTX_free(ctx)
                break

    cdef SSL_CTX* new_ctx(self) except NULL:
        cdef SSL_CTX* ctx
        cdef str wrong = None
        ERR_clear_error()
        ctx = SSL_CTX_new(TLS_method())
        if ctx == NULL:
            raise MemoryError
        SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE
                            | SSL_OP_PRIORITIZE_CHACHA)
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN)
        SSL_CTX_set_read_ahead(ctx, 1)
        SSL_CTX_set_min_proto_version(ctx, self.version_min)
        SSL_CTX_set_max_proto_version(ctx, self.version_max)
        if SSL_CTX_set_cipher_list(ctx, PyBytes_AS_STRING(self.ciphers)) != 1:
            wrong = f"ciphers: {self.ciphers.decode()!r}"
        elif SSL_CTX_set_ciphersuites(ctx, PyBytes_AS_STRING(self.suites)) != 1:
            wrong = f"cipher_suites: {self.suites.decode()!r}"
        elif SSL_CTX_set1_groups_list(ctx, PyBytes_AS_STRING(self.groups)) != 1:
            wrong = f"groups: {self.groups.decode()!r}"
        if wrong is not None:
            SSL_CTX_free(ctx)
            raise ValueError(f"{wrong} has a name that {OPENSSL} does not know ({openssl_reason()})")
        if open_keylog() >= 0:
            SSL_CTX_set_keylog_callback(ctx, write_key)
        return ctx


cdef int use_certificate(SSL_CTX* ctx, tuple chain, bytes key) except -1:
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(key)
    cdef X509* leaf = read_certificate(chain[0])
    cdef STACK_OF_X509* rest = sk_X509_new_null()
    cdef EVP_PKEY* private = NULL
    try:
        for der in chain[1:]:
            sk_X509_push(rest, read_certificate(der))
        private = d2i_AutoPrivateKey(NULL, &at, PyBytes_GET_SIZE(key))
        if private == NULL or SSL_CTX_use_cert_and_key(ctx, leaf, private, rest, 1) != 1:
            raise ValueError(openssl_reason())
    finally:
        EVP_PKEY_free(private)
        free_chain(rest)
        X509_free(leaf)
    return 0


cdef int trust(SSL_CTX* ctx, tuple ca, tuple crls, bint names_ca) except -1:
    cdef X509_STORE* store = SSL_CTX_get_cert_store(ctx)
    cdef X509* certificate
    cdef X509_CRL* crl
    cdef const unsigned char* at
    cdef bytes der
    for der in ca:
        certificate = read_certificate(der)
        X509_STORE_add_cert(store, certificate)
        if names_ca:
            SSL_CTX_add_client_CA(ctx, certificate)
        X509_free(certificate)
    for der in crls:
        at = <const unsigned char*>PyBytes_AS_STRING(der)
        crl = d2i_X509_CRL(NULL, &at, PyBytes_GET_SIZE(der))
        if crl == NULL:
            raise ValueError(f"not a revocation list: {openssl_reason()}")
        X509_STORE_add_crl(store, crl)
        X509_CRL_free(crl)
    if crls:
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL)
    return 0
