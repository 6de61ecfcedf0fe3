"""TLS clients. Own their SSL_CTX and the sessions to resume; know no request."""
cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp
from pingora_c.lib.openssl cimport (
    SSL, SSL_CTX_free, SSL_CTX_get_cert_store, SSL_CTX_sess_set_new_cb, SSL_CTX_set_alpn_protos,
    SSL_CTX_set_session_cache_mode, SSL_CTX_set_verify, SSL_SESSION_free, SSL_SESSION_is_resumable,
    SSL_SESS_CACHE_CLIENT, SSL_SESS_CACHE_NO_INTERNAL, SSL_VERIFY_NONE, SSL_VERIFY_PEER, SSL_add1_host,
    SSL_get0_alpn_selected, SSL_get0_param, SSL_get_ex_data, SSL_set_alpn_protos, SSL_set_hostflags, SSL_set_session,
    SSL_set_tlsext_host_name, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS,
    X509_STORE_load_file, X509_STORE_load_path, X509_VERIFY_PARAM_set1_ip_asc,
)
from pingora_c.net.tls cimport openssl_reason
from pingora_c.net.tls_context cimport TlsRules, trust, use_certificate
from pingora_c.net.tls_info cimport tls_info


cdef int on_new_session(SSL* ssl, SSL_SESSION* session) noexcept:
    cdef TlsTransport transport = <TlsTransport>SSL_get_ex_data(ssl, 0)
    transport.context.on_session(transport, session)
    return 1     # it is ours now


@cython.final
cdef class KeptSession:
    def __dealloc__(self):
        SSL_SESSION_free(self.session)


@cython.final
cdef class ClientContext(TlsContext):
    """What connections to upstreams share.

    `ca` and `crls` are in DER; `ca_places` a file and a directory of the system's CAs, or None. `certificate` is
    (chain, key) in DER, or None.
    """

    def __init__(self, TlsRules rules not None, *, bint verifies, tuple ca, tuple crls, tuple ca_places, certificate,
                 bytes protocols not None):
        cdef bytes file
        cdef bytes directory
        file, directory = ca_places
        self.ctx = rules.new_ctx()
        self.sessions = {}
        self.verifies = verifies
        self.protocols = protocols
        trust(self.ctx, ca, crls, False)
        if file is not None and X509_STORE_load_file(SSL_CTX_get_cert_store(self.ctx), PyBytes_AS_STRING(file)) != 1:
            raise ValueError(f"{file.decode()}: {openssl_reason()}")
        if directory is not None:
            X509_STORE_load_path(SSL_CTX_get_cert_store(self.ctx), PyBytes_AS_STRING(directory))
        if certificate is not None:
            use_certificate(self.ctx, certificate[0], certificate[1])
        SSL_CTX_set_verify(self.ctx, SSL_VERIFY_PEER if verifies else SSL_VERIFY_NONE, NULL)
        SSL_CTX_set_session_cache_mode(self.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL)
        SSL_CTX_sess_set_new_cb(self.ctx, on_new_session)
        if protocols:
            SSL_CTX_set_alpn_protos(self.ctx, <const unsigned char*>PyBytes_AS_STRING(protocols),
                                    <unsigned int>PyBytes_GET_SIZE(protocols))

    def __dealloc__(self):
        SSL_CTX_free(self.ctx)

    cdef TlsTransport connect(
        self, int fd, object key, bytes server_name, tuple host_names, bytes ip, bytes offered,
    ):
        cdef TlsTransport transport = TlsTransport.new(fd, self, self.ctx, False)
        cdef KeptSession session = <KeptSession>self.sessions.get(key)
        cdef bytes name
        transport.choice = key
        transport.server_name = server_name
        transport.offered = self.protocols if offered is None else offered
        if offered is not None and SSL_set_alpn_protos(
                transport.ssl, <const unsigned char*>PyBytes_AS_STRING(offered),
                <unsigned int>PyBytes_GET_SIZE(offered)) != 0:
            raise MemoryError
        if server_name is not None:
            SSL_set_tlsext_host_name(transport.ssl, PyBytes_AS_STRING(server_name))
        if self.verifies:
            # the subject's common name is no host name (RFC 9525 §2)
            SSL_set_hostflags(transport.ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)
            for name in host_names:
                if SSL_add1_host(transport.ssl, PyBytes_AS_STRING(name)) != 1:
                    transport.fd = -1      # stays the caller's
                    raise MemoryError
            if not host_names and X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(transport.ssl),
                                                                PyBytes_AS_STRING(ip)) != 1:
                transport.fd = -1
                raise ValueError(f"not an IP address: {ip!r}")
        if session is not None and SSL_SESSION_is_resumable(session.session):
            SSL_set_session(transport.ssl, session.session)
        return transport

    cdef void on_session(self, TlsTransport transport, SSL_SESSION* session) noexcept:
        cdef KeptSession made = None
        try:
            made = KeptSession.__new__(KeptSession)
            made.session = session
            self.sessions.pop(transport.choice, None)
            if len(self.sessions) >= SESSIONS_MAX:
                del self.sessions[next(iter(self.sessions))]
            self.sessions[transport.choice] = made
        except:
            pass   # ignored: without memory nothing is resumed
        if made is None:
            SSL_SESSION_free(session)

    cdef bint on_open(self, TlsTransport transport) noexcept:
        """Whether the protocol that the server chose is one that was offered (RFC 7301 §3.1)."""
        cdef const unsigned char* chosen = NULL
        cdef const unsigned char* ours = <const unsigned char*>PyBytes_AS_STRING(transport.offered)
        cdef const unsigned char* end = ours + PyBytes_GET_SIZE(transport.offered)
        cdef unsigned int size = 0
        SSL_get0_alpn_selected(transport.ssl, &chosen, &size)
        while ours < end and size:
            if ours[0] == size and memcmp(ours + 1, chosen, size) == 0:
                return True
            ours += 1 + ours[0]
        return size == 0

    cdef object describe(self, TlsTransport transport):
        return tls_info(transport, False)

    @property
    def n_sessions(self):
        """Peers with a session that can be resumed."""
        return len(self.sessions)
