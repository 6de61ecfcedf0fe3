"""The service of a proxy: accepts connections and makes sessions. Owns its client connections."""
cimport cython

import ipaddress

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memset
from pingora_c.base.clock cimport now_us
from pingora_c.http.message cimport RequestHead
from pingora_c.lib.socket cimport AF_UNIX, MSG_NOSIGNAL, recv, send, sockaddr_storage
from pingora_c.lib.unistd cimport close
from pingora_c.log.access cimport AccessRecord
from pingora_c.log.writer cimport LogWriter
from pingora_c.mem.buffer_pool cimport pool_set_limit
from pingora_c.net.introducer cimport Introducer
from pingora_c.net.listener cimport Acceptor, Listener
from pingora_c.net.networks cimport Networks
from pingora_c.net.reactor cimport Reactor
from pingora_c.net.tls cimport TlsTransport
from pingora_c.net.tls_server cimport ServerContext
from pingora_c.net.transport cimport PlainTransport, Tie, Transport
from pingora_c.proxy.access cimport ACCESS_OFF, write_record
from pingora_c.proxy.downstream cimport H1Server
from pingora_c.proxy.client_cert cimport tell_client_cert
from pingora_c.proxy.error_page cimport ErrorPages
from pingora_c.proxy.exchange cimport Exchange
from pingora_c.proxy.failure cimport CLIENT_GONE
from pingora_c.proxy.h2_server cimport H2Server
from pingora_c.proxy.plan cimport (
    ERROR_WHILE_PROXY, FAIL_TO_CONNECT, PHASE_END, REQUEST_BODY_FILTER, RESPONSE_BODY_FILTER, RESPONSE_FILTER,
    RESPONSE_TRAILER_FILTER, UPSTREAM_PEER, UPSTREAM_RESPONSE_BODY_FILTER, UPSTREAM_RESPONSE_FILTER,
    UPSTREAM_RESPONSE_TRAILER_FILTER, Plan, RetryRules,
)
from pingora_c.proxy.refusal cimport refusal_reason, refusal_status
from pingora_c.proxy.server_connection cimport ServerConnection, ServerLimits
from pingora_c.proxy.stream cimport Stream
from pingora_c.proxy.task cimport TaskStarter
from pingora_c.proxy.websocket cimport WebSocket
from pingora_c.proxy.tally cimport count_request, service_cells
from pingora_c.stats.counters cimport (
    CLIENTS_REFUSED, CONNECTIONS_ACCEPTED, CONNECTIONS_OPEN, SERVICE_ACCEPTED, SERVICE_OPEN,
)
from pingora_c.upstream.address cimport Address
from pingora_c.upstream.pool cimport Pool

from pingora_c.proxy.plan import PHASES as _PHASES
from pingora_c.proxy.session cimport new_session


cdef char[4096] unread        # what a client said that nobody reads


cdef int read_retry(dict retry, RetryRules* rules) except -1:
    cdef int i
    rules.attempts_max = retry["attempts"]
    rules.try_ms = retry["try_ms"]
    rules.total_ms = retry["total_ms"]
    rules.replay_bytes = retry["replay_bytes"]
    rules.any_method = retry["any_method"]
    rules.lost = retry["lost"]
    rules.n_statuses = len(retry["statuses"])
    if rules.n_statuses > 16:
        raise ValueError("retry: expected at most 16 statuses")
    for i in range(rules.n_statuses):
        rules.statuses[i] = retry["statuses"][i]
    return 0


cdef int read_limits(dict limits, ServerLimits* given) except -1:
    given.handshake_ms = limits["handshake_ms"]
    given.head_ms = limits["head_ms"]
    given.keep_alive_ms = limits["keep_alive_ms"]
    given.body_ms = limits["body_ms"]
    given.tunnel_ms = limits["tunnel_ms"]
    given.tunnel_total_ms = limits["tunnel_total_ms"]
    given.message_ms = limits["message_ms"]
    given.message_bytes = limits["message_bytes"]
    given.message_fragments = limits["message_fragments"]
    given.write_ms = limits["write_ms"]
    given.head_bytes = limits["head_bytes"]
    given.target_bytes = limits["target_bytes"]
    given.fields = limits["fields"]
    given.connections = limits["connections"]
    given.client_connections = limits["client_connections"]
    given.body_rate = limits["body_rate"]
    given.body_bytes = limits["body_bytes"]
    given.chunk_extension_bytes = limits["chunk_extension_bytes"]
    given.write_rate = limits["write_rate"]
    given.requests = limits["requests"]
    given.buffered_bytes = limits["buffered_bytes"]
    given.http2_streams = limits["http2_streams"]
    given.http2_window = limits["http2_window"]
    given.http2_resets = limits["http2_resets"]
    return 0


def make_plan(Reactor reactor, proxy, tuple hooks, *, balancer, loop, report, LogWriter access_writer,
              int access_format, dict limits, dict retry, double hook_timeout, dict hook_limits, tuple trusted,
              int forwarded, int client_cert, ErrorPages pages not None, str name not None="_other",
              bint takes_connect=False, bint abort_on_half_close=False, str via=None, answer_filter=None):
    """Make the plan of a proxy object.

    `hooks` is a tuple in the order of PHASES; `limits` a dict of the fields of ServerLimits, `retry` one of those of
    RetryRules. `report` has the methods hook_raised(hook, request line, exception) and failed(summary, error, client,
    upstream, attempts, cut), refused(reason, status, client) and outage(address, failures, seconds). `trusted` is a
    tuple of ipaddress networks whose X-Forwarded-* fields are kept, `forwarded` are bits of ForwardedFields,
    `client_cert` is one of ClientCertFields. `hook_limits` gives limits in seconds, by the phase's name, where they
    differ from `hook_timeout`. `name` is that of the service in what is counted. With `takes_connect` CONNECT is
    served, where upstream_peer says; with `abort_on_half_close` a client of HTTP/1 that ends its side is gone.
    `via` is our name in Via, of at most 100 characters; None writes none. `answer_filter(session, head, ctx)` may
    change the head of an answer that is made here, and must be no coroutine function.
    """
    if len(hooks) != PHASE_END:
        raise ValueError(f"hooks: expected {<int>PHASE_END} entries")
    if hooks[<int>UPSTREAM_PEER] is None and balancer is None:
        raise ValueError(f"{type(proxy).__name__}: override upstream_peer or set self.upstreams to a LoadBalancer")
    cdef Plan plan = Plan()
    plan.proxy = proxy
    plan.name = name
    plan.takes_connect = takes_connect
    plan.aborts_half_close = abort_on_half_close
    plan.via = None if via is None else via.encode("ascii")
    plan.hooks = hooks
    plan.answer_filter = answer_filter
    plan.has_hooks = answer_filter is not None or any(hook is not None for hook in hooks)
    plan.has_response_hooks = any(hooks[i] is not None for i in (UPSTREAM_RESPONSE_FILTER, RESPONSE_FILTER))
    plan.has_request_body_hooks = hooks[<int>REQUEST_BODY_FILTER] is not None
    plan.has_response_body_hooks = any(
        hooks[i] is not None for i in (UPSTREAM_RESPONSE_BODY_FILTER, UPSTREAM_RESPONSE_TRAILER_FILTER,
                                       RESPONSE_BODY_FILTER, RESPONSE_TRAILER_FILTER))
    read_retry(retry, &plan.retry)
    plan.has_retry_hooks = any(hooks[i] is not None for i in (FAIL_TO_CONNECT, ERROR_WHILE_PROXY))
    plan.keeps_body = plan.retry.any_method or hooks[<int>ERROR_WHILE_PROXY] is not None
    plan.reactor = reactor
    plan.balancer = balancer
    plan.loop = loop
    plan.tasks = TaskStarter(loop)
    plan.new_session = new_session
    plan.on_hook_error = report.hook_raised
    plan.on_failure = report.failed
    plan.on_refused = report.refused
    plan.on_outage = report.outage
    plan.pages = pages
    plan.access_writer = access_writer
    plan.trusted = trusted
    plan.forwarded = forwarded
    plan.client_cert = client_cert
    plan.access_format = access_format if access_writer is not None else ACCESS_OFF
    plan.hook_timeout_ms = <uint32_t>(hook_timeout * 1000)
    for name in hook_limits:
        if name not in _PHASES:
            raise ValueError(f"hook_timeouts: {type(proxy).__name__} has no hook {name!r}")
        if name.endswith(("body_filter", "trailer_filter")):
            raise ValueError(f"hook_timeouts: {name} has no limit, a body may take as long as it likes")
    if hook_limits:
        plan.hook_timeouts_ms = {_PHASES.index(name): int(limit * 1000) for name, limit in hook_limits.items()}
    read_limits(limits, &plan.limits)
    return plan


@cython.final
cdef class TlsAcceptor(Acceptor):
    @staticmethod
    cdef TlsAcceptor of(ProxyService service, ServerContext context, object chooser):
        cdef TlsAcceptor self = TlsAcceptor.__new__(TlsAcceptor)
        self.service = service
        self.context = context
        self.chooser = chooser
        self.accepts_singly = True
        return self

    cdef Transport encrypt(self, int fd, ServerConnection server):
        cdef TlsTransport transport = self.context.accept(fd)
        if self.chooser is not None:
            transport.chooser = self.chooser
            transport.source = server
        return transport

    cdef void on_accept(self, int fd, const sockaddr_storage* address, ProxyProtocol introduction) noexcept:
        self.service.take(fd, address, introduction, self)

    cdef void on_turned_away(self, const char* reason, const sockaddr_storage* address) noexcept:
        self.service.on_turned_away(reason, address)


cdef class ProxyService(Application):
    """The listeners and client connections of one proxy in this process; `plan` is of `make_plan`."""

    def __init__(self, Reactor reactor, Plan plan not None):
        self.reactor = reactor
        self.pool = Pool()
        self.listeners = []
        self.replaced = []
        self.heard_out = set()
        self._take(plan)

    def _take(self, Plan plan):
        cdef uint64_t* tally = service_cells(plan, plan.name)
        if tally != self.tally:      # its connections go with it
            if self.tally != NULL:
                self.tally[<int>SERVICE_OPEN] -= self.n_servers
            tally[<int>SERVICE_OPEN] += self.n_servers
            self.tally = tally
        plan.tally = tally
        plan.pool = self.pool
        self.plan = plan
        self.limits = plan.limits
        self.pages = plan.pages
        self.parting = None
        self.takes_connect = plan.takes_connect
        self.aborts_half_close = plan.aborts_half_close
        pool_set_limit(plan.limits.buffered_bytes)
        self.reactor.admission.set_limits(plan.limits.connections, plan.limits.client_connections)

    def adopt(self, Plan plan not None, on_idle):
        """Begin sessions on `plan` from now on, also those of open connections; running ones end on the plan they have.

        `on_idle` is called from the loop when no session runs on the replaced plan any more.
        """
        cdef Plan old = self.plan
        self.replaced = [earlier for earlier in self.replaced if (<Plan>earlier).n_active]
        self.replaced.append(old)
        self.replaced_requests += old.n_requests
        plan.is_stopping = old.is_stopping
        self._take(plan)
        old.on_idle = on_idle
        if old.n_active == 0:
            old.tell_idle()

    def listen(self, int fd):
        """Take over a listening socket; its clients are accepted while the returned Listener watches."""
        cdef Listener listener = Listener()
        listener.start(self.reactor, fd, self)
        self.listeners.append(listener)
        return listener

    def use_tls(self, Listener listener not None, ServerContext tls, chooser=None):
        """Encrypt what a listener of this service accepts from now on, or (None) no longer.

        `chooser` is called with each ClientHello; it gives a HostContext, None, or a future of one.
        """
        listener.acceptor = self if tls is None else TlsAcceptor.of(self, tls, chooser)

    def expect_introduction(self, Listener listener not None, Networks trusted, bint is_required=True,
                            uint32_t limit_ms=5000):
        """Read the PROXY protocol on what a listener of this service accepts from now on, or (None) do not.

        Peers in `trusted` introduce clients, and must if `is_required`; a header of any other peer is refused. To be
        called after `use_tls`.
        """
        if trusted is not None:
            listener.acceptor = Introducer(self.reactor, listener.acceptor, trusted, is_required, limit_ms)

    def serve_socket(self, int fd, Address client=None, Tie tie=None):
        """Serve a connected socket, which it takes over, as if its client were at `client`; None: at a Unix socket.

        `tie` is of a pair of sockets.
        """
        cdef sockaddr_storage address
        memset(&address, 0, sizeof(address))
        address.ss_family = AF_UNIX
        if client is not None:
            address = client.raw
        self.reactor.enter()
        self.tie = tie
        self.take(fd, &address, None, None)
        self.tie = None
        self.reactor.leave()

    def stop_listener(self, Listener listener not None):
        """Close a listener of this service, if it is one; what it accepted stays open."""
        if listener in self.listeners:
            self.reactor.enter()
            self.listeners.remove(listener)
            listener.close()
            self.reactor.leave()

    cdef void on_accept(self, int fd, const sockaddr_storage* address, ProxyProtocol introduction) noexcept:
        self.take(fd, address, introduction, None)

    cdef void on_turned_away(self, const char* reason, const sockaddr_storage* address) noexcept:
        cdef ServerConnection peer
        try:
            peer = ServerConnection.__new__(ServerConnection)
            peer.note_client(address)
            self.plan.on_refused(reason.decode("ascii"), 0, peer.client_text())
        except:
            pass   # ignored: no memory for a line

    cdef void take(self, int fd, const sockaddr_storage* address, ProxyProtocol introduction, TlsAcceptor tls) noexcept:
        cdef int accepted = -1
        try:
            if not self.is_closed:      # a client that was still to be introduced when the service ended
                accepted = self.accept_or_raise(fd, address, introduction, tls)
        except:
            pass   # ignored: no memory for one more connection
        if accepted != 0:
            close(fd)

    cdef int turn_away(self, int fd) except -1:
        cdef uint64_t now_s = self.reactor.now_ms // 1000
        if self.parting is None or self.parting_s != now_s:      # its Date tells the second
            self.parting = self.pages.last_answer(503, b"client_connections")
            self.parting_s = now_s
        send(fd, PyBytes_AS_STRING(self.parting), PyBytes_GET_SIZE(self.parting), MSG_NOSIGNAL)
        # what has come already would make the close a reset, which may overtake the answer
        recv(fd, unread, sizeof(unread), 0)
        return 0

    cdef int accept_or_raise(self, int fd, const sockaddr_storage* address, ProxyProtocol introduction,
                             TlsAcceptor tls) except -1:
        cdef ServerConnection server = self.new_connection()
        cdef Transport transport
        server.introduction = introduction
        server.application = self
        server.note_client(address)
        self.meet(server)
        server.client_key = self.reactor.admission.join(address, server.is_trusted)
        if server.client_key is NotImplemented:
            self.reactor.counted[<int>CLIENTS_REFUSED] += 1
            if tls is None:
                self.turn_away(fd)
            return 1
        try:
            if tls is None:
                transport = PlainTransport.new(fd)
                transport.tie = self.tie
            else:
                transport = tls.encrypt(fd, server)
        except:
            self.reactor.admission.leave(server.client_key)
            raise
        if server.open(self.reactor, transport) < 0:
            self.reactor.admission.leave(server.client_key)
            transport.fd = -1
            raise MemoryError
        self.n_servers += 1
        self.n_servers_most = max(self.n_servers_most, self.n_servers)
        self.reactor.counted[<int>CONNECTIONS_ACCEPTED] += 1
        self.reactor.counted[<int>CONNECTIONS_OPEN] += 1
        self.tally[<int>SERVICE_ACCEPTED] += 1
        self.tally[<int>SERVICE_OPEN] += 1
        if transport.needs_handshake:
            server.arm(self.limits.handshake_ms)
        server.open_transport()
        return 0

    cdef ServerConnection new_connection(self):
        return H1Server.__new__(H1Server)

    cdef void on_http2(self, ServerConnection server, const char* data, size_t size) noexcept:
        cdef H2Server successor = None
        try:
            successor = self.succeed(server)
        except:
            pass   # ignored: no memory for it, the connection ends
        if successor is None:
            server.close()
            return
        if self.plan.is_stopping:
            successor.drain()
        successor.show(data, size)

    cdef H2Server succeed(self, ServerConnection server):
        cdef H2Server successor = H2Server.__new__(H2Server)
        successor.take_over(server)
        return successor

    cdef void on_refused(self, ServerConnection server, int refusal, size_t size) noexcept:
        try:
            self.log_refusal(server, refusal, size)
        except:
            pass   # ignored: no memory for a line

    cdef int log_refusal(self, ServerConnection server, int refusal, size_t size) except -1:
        cdef AccessRecord record
        cdef AccessRecord* filled = &record
        if self.plan.access_format != ACCESS_OFF:
            memset(&record, 0, sizeof(record))
            record.client.at = server.client_ip
            record.client.size = server.client_ip_size
            record.status = refusal_status(refusal)
            record.error = refusal_reason(refusal)
            record.sent_bytes = size
            record.total_us = now_us() - server.head_at_us
            record.connect_us = record.first_byte_us = -1
            write_record(self.plan, filled, None, None)
        self.plan.on_refused(refusal_reason(refusal).decode("ascii"), refusal_status(refusal), server.client_text())
        return 0

    cdef void on_server_closed(self, ServerConnection server) noexcept:
        self.reactor.counted[<int>CONNECTIONS_OPEN] -= 1
        self.tally[<int>SERVICE_OPEN] -= 1
        self.reactor.admission.leave(server.client_key)
        self.n_servers -= 1

    cdef list servers(self):
        return [source for source in self.reactor.sources()
                if isinstance(source, ServerConnection) and (<ServerConnection>source).application is self]

    cdef int meet(self, ServerConnection server) except -1:
        cdef Plan earlier = server.plan
        if earlier is not None and earlier.proxy is not self.plan.proxy:
            server.persisted = None      # another hook object's
        server.is_trusted = (len(self.plan.trusted) > 0
                             and self.trusts(server.client_ip[:server.client_ip_size].decode("ascii")))
        server.plan = self.plan
        return 0

    cdef bint trusts(self, str client) except -1:
        if client == "unix":
            return True      # whoever may open the socket is on this machine and was let in
        address = ipaddress.ip_address(client)
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.plan.trusted)

    cdef int begin(self, ServerConnection server, Stream stream, RequestHead head) noexcept:
        cdef Exchange session = None
        try:
            if server.plan is not self.plan:
                self.meet(server)
            if self.plan.client_cert:
                tell_client_cert(head, server.transport, self.plan.client_cert)
            session = Exchange.__new__(Exchange)
        except:
            return -1
        session.plan = self.plan
        session.server = server
        session.down = stream
        session.body_limit = self.plan.limits.body_bytes
        session.request_head = head
        session.started_us = server.head_at_us
        stream.owner = session
        self.plan.n_requests += 1
        self.plan.n_active += 1
        count_request(self.plan)
        session.start()
        return 0

    def stop_listening(self):
        """Close the listeners; running sessions go on and their answers say Connection: close."""
        cdef Listener listener
        cdef Plan earlier
        cdef ServerConnection server
        self.reactor.enter()
        self.plan.is_stopping = True
        for earlier in self.replaced:
            earlier.is_stopping = True
        for listener in self.listeners:
            listener.close()
        self.listeners = []
        for server in self.servers():
            server.drain()
        self.reactor.leave()

    def close_idle(self):
        """Close client connections that are between exchanges; return how many are left."""
        cdef ServerConnection server
        self.reactor.enter()
        for server in self.servers():
            server.close_if_idle()
        self.reactor.leave()
        return self.n_servers

    def leave_websockets(self):
        """Close WebSockets on both sides with 1001; return how many. Their sessions end within a second."""
        cdef Plan plan
        cdef WebSocket websocket
        cdef int n = 0
        self.reactor.enter()
        for plan in [self.plan, *self.replaced]:
            for websocket in list(plan.websockets):
                n += websocket.leave(1001, b"")
        self.reactor.leave()
        return n

    @property
    def n_websockets(self):
        """WebSockets of sessions that have not ended."""
        return sum([len((<Plan>plan).websockets) for plan in [self.plan, *self.replaced]])

    def close(self):
        """Cut everything."""
        cdef ServerConnection server
        cdef Stream stream
        self.is_closed = True
        self.stop_listening()
        self.reactor.enter()
        self.reactor.run_ready()     # sessions of clients that are gone may still have to hear of it
        for server in self.servers():
            server.fail(CLIENT_GONE)
            server.close()
        for stream in list(self.heard_out):
            if stream.owner is not None:
                stream.owner.on_failure(True, CLIENT_GONE)
        self.pool.close()
        self.reactor.leave()

    @property
    def n_connections(self):
        """Open client connections."""
        return self.n_servers

    def most_connections(self):
        """Return how many client connections were open at once since the last call of this."""
        most, self.n_servers_most = self.n_servers_most, self.n_servers
        return most

    @property
    def n_idle_upstream(self):
        """Connections to upstreams that wait for their next request."""
        return self.pool.size

    @property
    def n_requests(self):
        """Requests so far."""
        return self.replaced_requests + self.plan.n_requests

    @property
    def n_active(self):
        """Sessions that have not ended, those on replaced plans included."""
        return self.plan.n_active + sum([(<Plan>earlier).n_active for earlier in self.replaced])
