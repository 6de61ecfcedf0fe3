"""A proxy object's service in one worker: its listeners, its client connections, the plan its sessions share."""
from libc.stdint cimport uint64_t
from pingora_c.lib.socket cimport sockaddr_storage
from pingora_c.net.listener cimport Acceptor
from pingora_c.net.proxy_protocol cimport ProxyProtocol
from pingora_c.net.tls_server cimport ServerContext
from pingora_c.net.transport cimport Tie, Transport
from pingora_c.proxy.h2_server cimport H2Server
from pingora_c.proxy.plan cimport Plan, RetryRules
from pingora_c.proxy.server_connection cimport Application, ServerConnection, ServerLimits
from pingora_c.upstream.pool cimport Pool

cdef int read_retry(dict retry, RetryRules* rules) except -1
cdef int read_limits(dict limits, ServerLimits* given) except -1


cdef class TlsAcceptor


cdef class ProxyService(Application):
    cdef readonly Plan plan      # of sessions that begin now
    cdef list replaced           # earlier plans that still have sessions
    cdef uint64_t replaced_requests   # requests that began on earlier plans
    cdef uint64_t* tally         # its cells in the reactor's counters
    cdef Pool pool               # shared by all its plans
    cdef uint64_t n_servers      # open client connections
    cdef uint64_t n_servers_most   # the most since `most_connections` was asked
    cdef list listeners
    cdef bytes parting           # what turn_away sends; None: it is made anew
    cdef uint64_t parting_s      # when it was made
    cdef Tie tie                 # of the socket that serve_socket hands in
    cdef list servers(self)      # these connections
    # The server's side of a connection that is accepted now.
    cdef ServerConnection new_connection(self)
    # The first request of a connection under the present plan: what depends on the plan is decided anew.
    cdef int meet(self, ServerConnection server) except -1
    cdef H2Server succeed(self, ServerConnection server)
    # lines for a message that no session saw
    cdef int log_refusal(self, ServerConnection server, int refusal, size_t size) except -1
    cdef bint trusts(self, str client) except -1
    # What a listener accepted, encrypted if `tls` is not None, of a client that `introduction` named unless None.
    cdef void take(self, int fd, const sockaddr_storage* address, ProxyProtocol introduction, TlsAcceptor tls) noexcept
    # Tell a client without TLS that it has too many connections, before it is closed, as far as that takes no waiting.
    cdef int turn_away(self, int fd) except -1
    # 0; 1 if the client has too many connections: the caller closes it
    cdef int accept_or_raise(self, int fd, const sockaddr_storage* address, ProxyProtocol introduction,
                             TlsAcceptor tls) except -1


# Accepts for a service on a listener with TLS.
cdef class TlsAcceptor(Acceptor):
    cdef ProxyService service
    cdef ServerContext context
    cdef object chooser          # of certificates, where a hook does; else None
    cdef Transport encrypt(self, int fd, ServerConnection server)

    @staticmethod
    cdef TlsAcceptor of(ProxyService service, ServerContext context, object chooser)
