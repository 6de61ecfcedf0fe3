"""The service of a proxy: accepts connections and makes sessions. Owns its client connections."""
cimport cython

from libc.stdint cimport uint32_t
from pingora_c.http.message cimport RequestHead
from pingora_c.lib.unistd cimport close
from pingora_c.log.writer cimport LogWriter
from pingora_c.net.listener cimport Listener
from pingora_c.net.reactor cimport Reactor
from pingora_c.net.transport cimport PlainTransport
from pingora_c.proxy.access cimport ACCESS_OFF
from pingora_c.proxy.downstream cimport H1Server, H1ServerStream
from pingora_c.proxy.failure cimport CLIENT_GONE
from pingora_c.proxy.plan cimport PHASE_END, RESPONSE_FILTER, UPSTREAM_PEER, UPSTREAM_RESPONSE_FILTER, Plan
from pingora_c.proxy.session cimport Session
from pingora_c.upstream.pool cimport Pool


@cython.final
cdef class ProxyService(Application):
    """The sessions of one proxy object in this process.

    `hooks` is a tuple in the order of PHASES; `limits` a dict of the fields of ServerLimits.
    """

    def __init__(self, Reactor reactor, proxy, hooks, balancer, loop, on_hook_error, LogWriter access_writer,
                 int access_format, dict limits, int attempts, double hook_timeout):
        if len(hooks) != PHASE_END:
            raise ValueError(f"hooks: expected {<int>PHASE_END} entries")
        if hooks[<int>UPSTREAM_PEER] is None and balancer is None:
            raise ValueError(f"{type(proxy).__name__}: override upstream_peer or set self.upstreams to a LoadBalancer")
        cdef Plan plan = Plan()
        plan.hooks = hooks
        plan.has_hooks = any(hook is not None for hook in hooks)
        plan.has_response_hooks = any(hooks[i] is not None for i in (UPSTREAM_RESPONSE_FILTER, RESPONSE_FILTER))
        plan.reactor = reactor
        plan.balancer = balancer
        plan.loop = loop
        plan.on_hook_error = on_hook_error
        plan.access_writer = access_writer
        plan.access_format = access_format if access_writer is not None else ACCESS_OFF
        plan.attempts_max = attempts
        plan.hook_timeout_ms = <uint32_t>(hook_timeout * 1000)
        plan.pool = Pool()
        plan.limits.head_ms = limits["head_ms"]
        plan.limits.keep_alive_ms = limits["keep_alive_ms"]
        plan.limits.body_ms = limits["body_ms"]
        plan.limits.write_ms = limits["write_ms"]
        plan.limits.head_bytes = limits["head_bytes"]
        plan.limits.target_bytes = limits["target_bytes"]
        plan.limits.fields = limits["fields"]
        self.plan = plan
        self.reactor = reactor
        self.limits = plan.limits
        self.proxy = proxy
        self.servers = set()
        self.listeners = []

    def listen(self, int fd):
        """Accept from a listening socket; takes over the descriptor."""
        cdef Listener listener = Listener()
        listener.start(self.reactor, fd, self)
        self.listeners.append(listener)

    cdef void on_accept(self, int fd, const sockaddr_storage* address) noexcept:
        cdef int accepted = -1
        try:
            accepted = self.accept_or_raise(fd, address)
        except:
            pass   # ignored: no memory for one more connection
        if accepted < 0:
            close(fd)

    cdef int accept_or_raise(self, int fd, const sockaddr_storage* address) except -1:
        cdef H1Server server = H1Server.__new__(H1Server)
        cdef PlainTransport transport = PlainTransport.new(fd)
        server.application = self
        server.note_client(address)
        self.servers.add(server)
        if server.open(self.reactor, transport) < 0:
            self.servers.discard(server)
            transport.fd = -1
            raise MemoryError
        server.arm(self.limits.keep_alive_ms)
        return 0

    cdef void on_server_closed(self, H1Server server) noexcept:
        try:
            self.servers.discard(server)
        except:
            pass   # ignored: discarding allocates nothing

    cdef int begin(self, H1ServerStream stream, RequestHead head) noexcept:
        cdef Session session = None
        try:
            session = Session.__new__(Session)
        except:
            return -1
        session.plan = self.plan
        session.server = stream.server
        session.down = stream
        session.request_head = head
        session.started_us = stream.server.head_at_us
        stream.owner = session
        self.plan.n_requests += 1
        self.plan.n_active += 1
        session.start()
        return 0

    def stop_listening(self):
        """Close the listeners; running sessions go on and their answers say Connection: close."""
        cdef Listener listener
        self.reactor.enter()
        self.plan.is_stopping = True
        for listener in self.listeners:
            listener.close()
        self.listeners = []
        self.reactor.leave()

    def close_idle(self):
        """Close client connections that are between exchanges; return how many are left."""
        cdef H1Server server
        self.reactor.enter()
        for server in list(self.servers):
            if server.stream is None:
                server.close()
        self.reactor.leave()
        return len(self.servers)

    def close(self):
        """Cut everything."""
        cdef H1Server server
        self.stop_listening()
        self.reactor.enter()
        for server in list(self.servers):
            if server.stream is not None and server.stream.owner is not None:
                server.stream.owner.on_failure(True, CLIENT_GONE)
            server.close()
        self.plan.pool.close()
        self.reactor.leave()

    @property
    def n_connections(self):
        """Open client connections."""
        return len(self.servers)

    @property
    def n_requests(self):
        """Requests so far."""
        return self.plan.n_requests

    @property
    def n_active(self):
        """Sessions that have not ended."""
        return self.plan.n_active
