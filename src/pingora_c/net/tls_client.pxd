"""The client's side of TLS: what is trusted, whom to expect, and sessions to resume."""
cimport cython
from pingora_c.lib.openssl cimport SSL_CTX, SSL_SESSION
from pingora_c.net.tls cimport TlsContext, TlsTransport

cdef enum:
    SESSIONS_MAX = 1024      # kept per context, the oldest goes first


@cython.final
cdef class KeptSession:
    cdef SSL_SESSION* session   # owned


# Settings that many peers share: two peers with the same one have the same trust, certificate and protocols. Compared
# by identity, since whoever makes it makes one for equal settings.
@cython.final
cdef class ClientContext(TlsContext):
    cdef SSL_CTX* ctx           # owned
    cdef dict sessions          # key of a peer -> its last KeptSession
    cdef readonly bint verifies
    cdef object __weakref__
    cdef bytes protocols        # ALPN as offered, empty: none

    # A transport over `fd` to the peer of `key`. It sends `server_name` as SNI unless None, and expects a certificate
    # for one of `host_names`, or if that is empty for `ip`. `offered`: ALPN, None: `protocols`.
    cdef TlsTransport connect(
        self, int fd, object key, bytes server_name, tuple host_names, bytes ip, bytes offered,
    )
