"""TLS servers. Own the SSL_CTX of each virtual host; know no request."""
import ipaddress

cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.string cimport memcmp
from pingora_c.lib.openssl cimport (
    EVP_CIPHER_CTX, EVP_MAC_CTX, OPENSSL_free, OPENSSL_memdup, SSL, SSL_AD_INTERNAL_ERROR, SSL_CLIENT_HELLO_ERROR,
    SSL_CLIENT_HELLO_RETRY, SSL_CLIENT_HELLO_SUCCESS, SSL_CTX_free, SSL_CTX_get0_certificate,
    SSL_CTX_set_alpn_select_cb, SSL_CTX_set_client_hello_cb, SSL_CTX_set_num_tickets, SSL_CTX_set_options,
    SSL_CTX_set_session_cache_mode, SSL_CTX_set_session_id_context, SSL_CTX_set_session_ticket_cb, SSL_CTX_set_timeout,
    SSL_CTX_set_tlsext_status_cb, SSL_CTX_set_tlsext_ticket_key_evp_cb, SSL_CTX_set_verify, SSL_OP_NO_TICKET,
    SSL_SESSION, SSL_SESSION_get0_peer, SSL_SESS_CACHE_OFF, SSL_TICKET_EMPTY, SSL_TICKET_NO_DECRYPT,
    SSL_TICKET_RETURN_IGNORE_RENEW, SSL_TICKET_RETURN_USE, SSL_TICKET_RETURN_USE_RENEW, SSL_TICKET_SUCCESS_RENEW,
    SSL_TLSEXT_ERR_ALERT_FATAL, SSL_TLSEXT_ERR_NOACK, SSL_TLSEXT_ERR_OK, SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    SSL_VERIFY_NONE, SSL_VERIFY_PEER, SSL_get_certificate, SSL_get_ex_data, SSL_set_SSL_CTX, SSL_set_session_id_context,
    SSL_set_tlsext_status_ocsp_resp, SSL_set_verify, SSL_version, TLS1_3_VERSION,
)
from pingora_c.lib.time cimport CLOCK_REALTIME, clock_gettime, timespec
from pingora_c.net.reactor cimport Reactor
from pingora_c.net.tls_context cimport TlsRules, trust, use_certificate
from pingora_c.net.tls_hello cimport read_hello, server_name_of
from pingora_c.net.tls_info cimport tls_info

cdef enum:
    TICKETS_PER_HANDSHAKE = 1     # TLS 1.3; OpenSSL's 2 cost a client that opens one connection 300 bytes


cdef int on_hello(SSL* ssl, int* alert, void* argument) noexcept:
    cdef TlsTransport transport = <TlsTransport>SSL_get_ex_data(ssl, 0)
    alert[0] = SSL_AD_INTERNAL_ERROR
    return transport.context.on_client_hello(transport)


cdef int on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                   int is_new) noexcept:
    cdef TlsTransport transport = <TlsTransport>SSL_get_ex_data(ssl, 0)
    cdef ServerContext context = <ServerContext>transport.context
    return context.tickets.handle(name, iv, cipher, mac, is_new)


cdef int on_opened_ticket(SSL* ssl, SSL_SESSION* session, const unsigned char* name, size_t size, int status,
                          void* argument) noexcept:
    """In TLS 1.3 a ticket is for one connection (RFC 8446 C.4), so each gives the next one.

    But not to clients with a certificate, which is verified anew when the lifetime of the first ticket is over. A
    ticket holds that certificate, not who vouched for it: RFC 9440 §3.2 wants both or no resumption.
    """
    cdef ServerContext context = <ServerContext>(<TlsTransport>SSL_get_ex_data(ssl, 0)).context
    if status == SSL_TICKET_EMPTY or status == SSL_TICKET_NO_DECRYPT:
        return SSL_TICKET_RETURN_IGNORE_RENEW
    if SSL_SESSION_get0_peer(session) != NULL:
        return SSL_TICKET_RETURN_IGNORE_RENEW if context.keeps_chain else SSL_TICKET_RETURN_USE
    if status == SSL_TICKET_SUCCESS_RENEW or SSL_version(ssl) == TLS1_3_VERSION:
        return SSL_TICKET_RETURN_USE_RENEW
    return SSL_TICKET_RETURN_USE


cdef int on_status(SSL* ssl, void* argument) noexcept:
    """Staple the OCSP response of the certificate that was chosen."""
    cdef TlsTransport transport = <TlsTransport>SSL_get_ex_data(ssl, 0)
    cdef HostContext host = <HostContext>transport.choice
    cdef bytes response = None
    cdef object until = None
    cdef timespec now
    cdef void* copied
    clock_gettime(CLOCK_REALTIME, &now)
    try:
        response, until = host.staples.get(<size_t>SSL_get_certificate(ssl), (None, None))
        if until is not None and now.tv_sec >= until:
            response = None
    except:
        pass   # ignored: without memory nothing is stapled, which clients accept
    if response is None:
        return SSL_TLSEXT_ERR_NOACK
    copied = OPENSSL_memdup(PyBytes_AS_STRING(response), PyBytes_GET_SIZE(response))
    if copied == NULL or SSL_set_tlsext_status_ocsp_resp(ssl, copied, PyBytes_GET_SIZE(response)) != 1:
        OPENSSL_free(copied)
        return SSL_TLSEXT_ERR_NOACK
    return SSL_TLSEXT_ERR_OK


cdef int on_alpn(SSL* ssl, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
                 unsigned int size, void* argument) noexcept:
    """The first of our protocols that the client offers too; a client that offers others only is refused (RFC 7301
    §3.2).
    """
    cdef TlsTransport transport = <TlsTransport>SSL_get_ex_data(ssl, 0)
    cdef ServerContext context = <ServerContext>transport.context
    cdef const unsigned char* ours = <const unsigned char*>PyBytes_AS_STRING(context.protocols)
    cdef const unsigned char* end = ours + PyBytes_GET_SIZE(context.protocols)
    cdef unsigned int at
    while ours < end:
        at = 0
        while at < size and at + 1 + offered[at] <= size:
            if offered[at] == ours[0] and memcmp(offered + at + 1, ours + 1, ours[0]) == 0:
                out[0] = offered + at + 1
                out_size[0] = offered[at]
                return SSL_TLSEXT_ERR_OK
            at += 1 + offered[at]
        ours += 1 + ours[0]
    return SSL_TLSEXT_ERR_ALERT_FATAL


@cython.final
cdef class Continuation:
    """Made by the core."""

    def go_on(self, future):
        """The hook has ended: the connection has its turn. Called by the loop."""
        cdef Reactor reactor = self.source.reactor
        reactor.enter()
        reactor.make_ready(self.source)
        reactor.leave()


@cython.final
cdef class HostContext:
    """Certificates of a virtual host, and what its clients must show.

    `certificates` are (chain, key, OCSP response or None) in DER with the second of the clock at which the response
    ends, or None, one for each type of key. `client_auth` is None or (CA certificates, revocation lists, whether a
    certificate is required).
    """

    def __init__(self, TlsRules rules not None, tuple certificates not None, *, frozenset names not None, policy,
                 client_auth, bytes scope not None, bytes protocols not None):
        cdef bytes staple
        self.ctx = rules.new_ctx()
        self.names = names
        self.policy = policy
        self.scope = scope
        self.staples = {}
        for chain, key, staple, until in certificates:
            use_certificate(self.ctx, chain, key)
            if staple is not None:
                self.staples[<size_t>SSL_CTX_get0_certificate(self.ctx)] = staple, until
        self.verify_mode = SSL_VERIFY_NONE
        if client_auth is not None:
            ca, crls, is_required = client_auth
            trust(self.ctx, ca, crls, True)
            self.verify_mode = SSL_VERIFY_PEER | (SSL_VERIFY_FAIL_IF_NO_PEER_CERT if is_required else 0)
        SSL_CTX_set_verify(self.ctx, self.verify_mode, NULL)
        SSL_CTX_set_session_id_context(self.ctx, <const unsigned char*>PyBytes_AS_STRING(scope),
                                       <unsigned int>PyBytes_GET_SIZE(scope))
        if protocols:
            SSL_CTX_set_alpn_select_cb(self.ctx, on_alpn, NULL)
        if self.staples:
            SSL_CTX_set_tlsext_status_cb(self.ctx, on_status)

    def __dealloc__(self):
        SSL_CTX_free(self.ctx)


@cython.final
cdef class ServerContext(TlsContext):
    """What a TLS listener shares: which host answers to which name, and the keys of tickets."""

    def __init__(self, TlsRules rules not None, *, TicketKeys tickets, bytes protocols not None, bint is_strict,
                 bint keeps_ja4=False):
        self.ctx = rules.new_ctx()
        self.tickets = tickets
        self.protocols = protocols
        self.is_strict = is_strict
        self.keeps_ja4 = keeps_ja4
        self.hosts = {}
        SSL_CTX_set_client_hello_cb(self.ctx, on_hello, NULL)
        SSL_CTX_set_session_cache_mode(self.ctx, SSL_SESS_CACHE_OFF)
        if tickets is None:
            SSL_CTX_set_options(self.ctx, SSL_OP_NO_TICKET)
            SSL_CTX_set_num_tickets(self.ctx, 0)
        else:
            SSL_CTX_set_timeout(self.ctx, tickets.lifetime)
            SSL_CTX_set_num_tickets(self.ctx, TICKETS_PER_HANDSHAKE)
            SSL_CTX_set_tlsext_ticket_key_evp_cb(self.ctx, on_ticket)
            SSL_CTX_set_session_ticket_cb(self.ctx, NULL, on_opened_ticket, NULL)

    def __dealloc__(self):
        SSL_CTX_free(self.ctx)

    def keep_chains(self):
        """Have connections know who vouches for their client. Such a client's sessions are not resumed then."""
        self.keeps_chain = True

    def replace(self, hosts, HostContext fallback not None):
        """Choose among these from the next handshake on; connections keep what they have."""
        self.hosts = dict(hosts)
        self.fallback = fallback
        self.has_policies = any((<HostContext>host).policy != fallback.policy for host in self.hosts.values())

    def hand_over(self, ServerContext successor not None):
        """Let `successor`, of the same listener, decide which hosts the open connections may ask for."""
        successor.successor = None
        if successor is not self:
            self.successor = successor

    cdef TlsTransport accept(self, int fd):
        cdef TlsTransport transport = TlsTransport.new(fd, self, self.ctx, True)
        transport.checks_host = True
        return transport

    cdef HostContext host_for(self, bytes name):
        cdef HostContext found
        if name is None:
            return self.fallback
        found = <HostContext>self.hosts.get(name)
        if found is None:
            found = <HostContext>self.hosts.get(b"*." + name.partition(b".")[2])
        return self.fallback if found is None else found

    cdef int on_client_hello(self, TlsTransport transport) noexcept:
        cdef int result = SSL_CLIENT_HELLO_ERROR
        try:
            result = self.choose(transport)
        except:
            pass   # ignored: a malformed name or no memory, the handshake ends with an alert
        return result

    cdef int choose(self, TlsTransport transport) except -2:
        cdef HostContext host = None
        if transport.future is None:
            transport.server_name = server_name_of(transport.ssl)
            if self.keeps_ja4:
                transport.ja4 = read_hello(transport.ssl, transport.server_name).ja4
        if transport.chooser is not None:
            host = self.ask(transport)
            if transport.future is not None:
                return SSL_CLIENT_HELLO_RETRY
        if host is None:
            host = self.host_for(transport.server_name)
        transport.choice = host
        if SSL_set_SSL_CTX(transport.ssl, host.ctx) == NULL:
            return SSL_CLIENT_HELLO_ERROR
        # what SSL_set_SSL_CTX leaves as it was
        SSL_set_verify(transport.ssl, host.verify_mode, NULL)
        SSL_set_session_id_context(transport.ssl, <const unsigned char*>PyBytes_AS_STRING(host.scope),
                                   <unsigned int>PyBytes_GET_SIZE(host.scope))
        return SSL_CLIENT_HELLO_SUCCESS

    cdef HostContext ask(self, TlsTransport transport):
        """What the chooser chose, None for what SNI says; while it awaits, `transport.future` is set."""
        cdef Continuation continuation
        cdef object result
        if transport.future is None:
            result = transport.chooser(read_hello(transport.ssl, transport.server_name))
            if result is None or type(result) is HostContext:
                return <HostContext>result
            transport.future = result
            continuation = Continuation.__new__(Continuation)
            continuation.source = transport.source
            result.add_done_callback(continuation.go_on)
        if not transport.future.done():
            return None
        result = transport.future.result()
        transport.future = None
        return <HostContext?>result if result is not None else None

    cdef bint serves_host(self, TlsTransport transport, const char* host, size_t size) noexcept:
        cdef ServerContext newest = self
        cdef bint is_served = False
        while newest.successor is not None:
            newest = newest.successor
        if newest is self and not self.is_strict and not self.has_policies:
            return True
        try:
            is_served = newest.serves_or_raise(<HostContext>transport.choice, host[:size] if size else None,
                                               transport.server_name)
        except:
            pass   # ignored: without memory the request is refused
        return is_served

    cdef bint serves_or_raise(self, HostContext shown, bytes name, bytes server_name) except? True:
        if self.host_for(server_name if name is None else name).policy != shown.policy:
            return False
        if not self.is_strict or name is None:
            return True
        text = name.decode("latin-1")
        if text.startswith("["):
            return str(ipaddress.IPv6Address(text.strip("[]"))) in shown.names    # whatever its spelling
        return text in shown.names or "*." + text.partition(".")[2] in shown.names

    cdef object describe(self, TlsTransport transport):
        return tls_info(transport, self.keeps_chain)
