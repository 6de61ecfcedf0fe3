"""The server's side of TLS: certificates by the name that a client asks for, tickets, client certificates.

A connection begins in the ServerContext, whose first look at the client's hello chooses a HostContext by SNI. That
decides the certificate, who must identify himself how, and which sessions may be resumed: those of the same host under
the same policy, and no other (security rule 23).
"""
cimport cython
from libc.stddef cimport size_t
from pingora_c.lib.openssl cimport SSL_CTX
from pingora_c.net.reactor cimport EventSource
from pingora_c.net.tls cimport TlsContext, TlsTransport
from pingora_c.net.tls_tickets cimport TicketKeys


@cython.final
cdef class HostContext:
    cdef SSL_CTX* ctx          # owned
    cdef int verify_mode
    cdef bytes scope           # 32 bytes: sessions of another scope are not resumed
    cdef readonly object policy   # of client certificates; two hosts with the same one may share a connection
    cdef readonly frozenset names   # that its certificates are for, lower case, also "*.example.com", "::1"
    cdef dict staples          # address of an X509 of ctx -> (its OCSP response, second at which that ends or None)


# Continues a handshake when a hook that awaits has ended.
@cython.final
cdef class Continuation:
    cdef EventSource source


@cython.final
cdef class ServerContext(TlsContext):
    cdef SSL_CTX* ctx          # owned: what connections begin with
    cdef TicketKeys tickets    # None: no resumption
    cdef bytes protocols       # ALPN, each behind its length, the preferred one first
    cdef dict hosts            # name, or "*.example.com" -> HostContext; replaced as a whole
    cdef readonly HostContext fallback   # for no name, or an unknown one
    cdef bint is_strict        # requests must be for a name of the certificate that was shown
    cdef bint keeps_ja4        # connections know their client's fingerprint
    cdef bint has_policies     # hosts differ in their policy
    cdef bint keeps_chain      # connections know who vouches for their client
    cdef ServerContext successor   # what the listener has now, None: this one

    cdef HostContext host_for(self, bytes name)
    cdef TlsTransport accept(self, int fd)
    # private
    cdef HostContext ask(self, TlsTransport transport)
    cdef int choose(self, TlsTransport transport) except -2
    cdef bint serves_or_raise(self, HostContext shown, bytes name, bytes server_name) except? True
