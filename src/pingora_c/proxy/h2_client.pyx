"""HTTP/2 client connections and their groups. Own sockets to origins; know streams only as H2Carried."""
cimport cython

from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int32_t
from pingora_c.h2.guard cimport GuardLimits
from pingora_c.h2.section cimport SECTION_BYTES_MAX, SECTION_FIELDS_MAX
from pingora_c.h2.session cimport H2_ENHANCE_YOUR_CALM, H2_NO_ERROR
from pingora_c.lib.errno cimport EMFILE, ENFILE, errno
from pingora_c.lib.unistd cimport close as close_fd
from pingora_c.net.reactor cimport SCRATCH_SIZE
from pingora_c.net.timer cimport timer_clear
from pingora_c.net.transport cimport IO_UNTRUSTED, Transport
from pingora_c.proxy.failure cimport (
    CERTIFICATE_INVALID, CONNECT_REFUSED, CONNECT_TIMEOUT, NO_MEMORY, TLS_HANDSHAKE, UPSTREAM_BAD_BODY,
    UPSTREAM_BAD_HEAD, UPSTREAM_CLOSED, UPSTREAM_REFUSED, UPSTREAM_TRUNCATED,
)
from pingora_c.proxy.stream cimport HIGH_WATER, StreamOwner
from pingora_c.proxy.upstream_leg cimport adopt_h1
from pingora_c.stats.counters cimport (
    H2_CONNECTIONS_OPEN, H2_CONNECTS, H2_GOAWAYS, H2_GUARDED, H2_PING_TIMEOUTS,
)
from pingora_c.upstream.peer cimport PEER_H2, finish_dial

cdef enum:
    CONNECTION_WINDOW = 16777216
    FORGETTING = 16              # answers until a large one counts little
    OUT_MAX = 262144             # bytes that wait for the socket before no more is framed


@cython.final
cdef class H2Group:
    cdef void note_answer(self, size_t size) noexcept:
        if size >= self.usual_bytes:
            self.usual_bytes = size
        else:
            self.usual_bytes -= (self.usual_bytes - size) // FORGETTING

    cdef H2Client free_client(self, H2Carried stream):
        cdef H2Client client, narrow = None
        for client in self.clients:
            if client.has_capacity() and client.takes(stream):
                if client.is_wide:
                    return client
                narrow = client
        return narrow

    cdef bint takes_connect(self) except -1:
        cdef H2Client client
        for client in self.clients:
            if client.has_capacity() and client.session.peer_takes_connect():
                return True
        return False

    cdef bint opens_wide(self, H2Carried stream) noexcept:
        return not self.is_full() and self.n_wide + 1 < self.most_clients and stream.may_be_wide()

    cdef int open_connections(self, HttpPeer peer) except -2:
        cdef int code = 0
        while not self.is_full() and len(self.waiting) > self.n_expected():
            code = self.open_connection(peer, self.opens_wide(<H2Carried>self.waiting[0]))
            if code < 0:
                break
        return code

    cdef bint is_full(self) noexcept:
        return PyList_GET_SIZE(self.clients) >= <Py_ssize_t>self.most_clients

    cdef Py_ssize_t n_expected(self) except -1:
        cdef uint32_t share = 1 if self.pool.h1_origins.has(self.origin) else min(self.capacity, self.most)
        return <Py_ssize_t>self.n_connecting * share

    cdef int open_connection(self, HttpPeer peer, bint is_wide) except -2:
        cdef H2Client client = H2Client.__new__(H2Client)
        cdef int fd = peer.dial()
        if fd < 0:
            return -3 if errno == EMFILE or errno == ENFILE else -1
        try:
            client.transport = peer.new_transport(fd, self.pool.h1_origins.requires(self.origin))
        except:
            close_fd(fd)
            raise
        client.peer = peer
        client.is_blocked = True     # the first OUT edge tells the end of the connect
        client.read_limit = SCRATCH_SIZE
        if client.open(self.reactor, client.transport) < 0:
            return -1
        self.clients.append(client)
        client.is_wide = is_wide
        self.n_wide += is_wide
        client.group = self
        self.n_connecting += 1
        self.reactor.counted[<int>H2_CONNECTS] += 1
        self.reactor.counted[<int>H2_CONNECTIONS_OPEN] += 1
        self.reactor.set_timer(&client.timer, peer.connect_timeout_ms)
        return 0

    cdef void serve(self, H2Client client) noexcept:
        cdef H2Carried stream
        cdef Py_ssize_t at = 0
        try:
            while at < PyList_GET_SIZE(self.waiting) and client.has_capacity():
                stream = <H2Carried>self.waiting[at]
                if not client.takes(stream):
                    at += 1
                    continue
                del self.waiting[at]
                stream.begin(client)
                if stream.owner is not None and not stream.awaits_settings:
                    stream.owner.on_connected()
        except:
            pass   # ignored: nothing above allocates; who waits has a timeout

    cdef void on_lost(self, H2Client client, int kind, str trouble) noexcept:
        try:
            self.fail_waiting(kind, trouble)
            self.go_if_unused()
        except:
            pass   # ignored: without memory who waits has a timeout

    cdef int fail_waiting(self, int kind, str trouble) except -1:
        cdef H2Carried stream
        cdef Py_ssize_t n = len(self.waiting) - self.n_expected()
        cdef H2Client client
        lost = []
        for stream in self.waiting if n > 0 else ():
            client = self.free_client(stream)
            if client is not None:
                self.reactor.make_late(client)       # it serves the stream
            elif len(lost) < n:
                lost.append(stream)
        for stream in lost:
            self.waiting.remove(stream)
            stream.group = None
        for stream in lost:
            stream.trouble = trouble
            stream.fail(kind)
        return 0

    cdef bint has_waiting(self) noexcept:
        return PyList_GET_SIZE(self.waiting) > 0

    cdef void hand_over(self, H2Client client) noexcept:
        cdef H2Carried stream = None
        cdef StreamOwner owner
        cdef Transport transport = client.transport
        cdef HttpPeer peer = client.peer
        self.pool.h1_origins.note(self.origin, False)
        client.surrender()
        self.leave(client)       # another may be opened in its place
        try:
            if self.waiting:
                stream = <H2Carried>self.waiting.pop(0)
                owner = stream.owner
                stream.group = None
                stream.let_go()
                stream.owner = None
                if adopt_h1(self.reactor, self.pool, peer, transport, owner) < 0:
                    owner.on_failure(False, NO_MEMORY)
                else:
                    owner.on_connected()
            else:
                transport.close()
            self.open_connections(peer)
        except:
            pass   # ignored: without memory who waits has a timeout
        self.leave(client)

    cdef int close(self) except -1:
        cdef H2Client client
        for client in list(self.clients):
            client.end(UPSTREAM_CLOSED, None)
        return 0

    cdef void leave(self, H2Client client) noexcept:
        try:
            if client in self.clients:
                self.clients.remove(client)
                self.n_wide -= client.is_wide
            if client.state != H2_CONNECTING and self.n_connecting == 0 and self.waiting:
                self.open_connections(client.peer)     # who waits for a stream of its may be served there
            self.go_if_unused()
        except:
            pass   # ignored: without memory who waits has a timeout

    cdef int go_if_unused(self) except -1:
        if not self.clients and not self.waiting and self.pool.shared.get(self.key) is self:
            del self.pool.shared[self.key]
        return 0


cdef class H2Carried(Stream):
    cdef void begin(self, H2Client client) noexcept:
        pass

    cdef bint may_be_wide(self) noexcept:
        return False

    cdef void on_settled(self) noexcept:
        pass

    cdef void take_section(self, bint is_end) noexcept:
        pass

    cdef void take_data(self, const char* data, size_t size) noexcept:
        pass

    cdef void on_padding(self) noexcept:
        pass

    cdef void take_end(self, Trailers trailers) noexcept:
        pass

    cdef void on_framed(self) noexcept:
        pass

    cdef void on_closed(self, uint32_t code) noexcept:
        pass

    cdef void go_on(self) noexcept:
        pass

    cdef void fail(self, int kind) noexcept:
        pass

    cdef void let_go(self) noexcept:
        pass


@cython.final
cdef class H2ClientSession(H2Session):
    cdef int put(self, const char* data, size_t size) noexcept:
        cdef H2Client client = <H2Client>self.client
        return client.write_copy(data, size)

    cdef bint has_room(self) noexcept:
        cdef H2Client client = <H2Client>self.client
        return client.out.size < OUT_MAX

    cdef void on_section(self, H2Stream* stream, int32_t stream_id, bint is_end) noexcept:
        if stream != NULL:
            (<H2Carried>stream.owner).take_section(is_end)

    cdef void on_section_refused(self, H2Stream* stream, int32_t stream_id, bint is_end) noexcept:
        if stream != NULL:
            (<H2Carried>stream.owner).trouble = "its fields are too many or too large"
            (<H2Carried>stream.owner).fail(UPSTREAM_BAD_HEAD)

    cdef void on_data(self, H2Stream* stream, const char* data, size_t size) noexcept:
        (<H2Carried>stream.owner).take_data(data, size)

    cdef void on_padding(self, H2Stream* stream) noexcept:
        (<H2Carried>stream.owner).on_padding()

    cdef void on_end(self, H2Stream* stream) noexcept:
        (<H2Carried>stream.owner).take_end(None)

    cdef void on_closed(self, H2Stream* stream, uint32_t code) noexcept:
        (<H2Carried>stream.owner).on_closed(code)

    cdef void on_settings(self) noexcept:
        cdef H2Client client = <H2Client>self.client
        if client.group is not None:
            client.group.capacity = max(<uint32_t>1, self.peer_max_streams())
            client.reactor.make_late(client)
        client.tell_settled()

    cdef void on_goaway(self, uint32_t code) noexcept:
        cdef H2Client client = <H2Client>self.client
        client.reactor.counted[<int>H2_GOAWAYS] += 1
        client.drain()

    cdef void on_pong(self) noexcept:
        (<H2Client>self.client).pinged_at_ms = 0

    cdef void on_framed(self, H2Stream* stream, size_t size) noexcept:
        (<H2Carried>stream.owner).on_framed()


@cython.final
cdef class H2Client(Connection):
    cdef bint has_capacity(self) noexcept:
        cdef uint32_t most
        if self.state != H2_OPEN or self.is_closed or self.saw_hangup or self.is_broken or self.pinged_at_ms:
            return False
        most = self.session.peer_max_streams()
        return self.n_streams < min(most, self.peer.max_h2_streams) and self.session.may_open()

    cdef bint takes(self, H2Carried stream) noexcept:
        return not self.is_wide or stream.may_be_wide()

    cdef void surrender(self) noexcept:
        self.reactor.remove(self, self.transport.fd)
        self.detach()
        if self.state == H2_CONNECTING and self.group is not None:
            self.group.n_connecting -= 1
        self.reactor.counted[<int>H2_CONNECTIONS_OPEN] -= 1
        self.group = None

    cdef int start(self) except -1:
        cdef H2ClientSession session = H2ClientSession.__new__(H2ClientSession)
        session.client = <void*>self
        session.now_ms = self.reactor.now_ms
        session.limits.head_bytes = SECTION_BYTES_MAX
        session.limits.fields = SECTION_FIELDS_MAX
        session.limits.window = min(<uint32_t>WIDE_WINDOW, self.peer.h2_window) if self.is_wide else NARROW_WINDOW
        session.limits.connection_window = CONNECTION_WINDOW
        session.limits.assumed_streams = min(<uint32_t>ASSUMED_STREAMS, self.group.capacity)
        session.limits.guard = GuardLimits(
            burst=1000, per_second=100, empty_data=10, continuations=8, section_bytes=SECTION_BYTES_MAX, priorities=100,
            updates=1000, updates_per_data=10, earns_by_head=True,
        )
        session.begin(False)
        self.session = session
        return 0

    # -- events of the connection

    cdef void on_writable(self) noexcept:
        if self.state != H2_CONNECTING:
            self.reactor.make_late(self)
            return
        if finish_dial(self.transport.fd, self.group.greeting) < 0:
            self.end(CONNECT_REFUSED, None)
        else:
            self.open_transport()

    cdef void on_open(self) noexcept:
        cdef bint is_h2 = True
        cdef H2Group group = self.group
        try:
            if self.transport.is_secure:
                is_h2 = self.transport.describe().alpn == "h2"
            if is_h2:
                self.start()
        except:
            self.session = None
            is_h2 = True
        if not is_h2 and self.peer.spoken == PEER_H2:
            self.end(TLS_HANDSHAKE, "the upstream did not choose HTTP/2 (ALPN)")
            return
        if not is_h2:
            group.hand_over(self)
            return
        if self.session is None:
            self.end(NO_MEMORY, None)
            return
        self.state = H2_OPEN
        group.n_connecting -= 1
        group.pool.h1_origins.forget(group.origin)
        self.read_at_ms = self.idle_at_ms = self.reactor.now_ms
        group.serve(self)
        self.arm()
        self.reactor.make_late(self)

    cdef void end_of_transport(self, int kind) noexcept:
        cdef str trouble = None
        try:
            trouble = self.transport.failure()
        except:
            pass   # ignored: the log says less
        self.end(kind, trouble)

    cdef void on_open_failed(self, int code) noexcept:
        self.end_of_transport(CERTIFICATE_INVALID if code == IO_UNTRUSTED else TLS_HANDSHAKE)

    cdef size_t on_bytes(self, const char* data, size_t size) noexcept:
        cdef int code
        if self.session is None:
            self.end(UPSTREAM_BAD_HEAD, "the upstream speaks before its protocol is known")
            return size
        self.read_at_ms = self.session.now_ms = self.reactor.now_ms
        code = self.session.receive(data, size)
        if self.is_closed:
            return size
        if code < 0:
            self.session.pump()
            self.give_up()
        else:
            self.reactor.make_late(self)
        return size

    cdef void give_up(self) noexcept:
        """The session takes nothing more. A GOAWAY that says why was framed."""
        cdef str trouble = "the upstream breaks the rules of HTTP/2"
        cdef bint is_flood = (self.session.guarded == <uint32_t>H2_ENHANCE_YOUR_CALM
                              or self.session.sent_goaway_code == <uint32_t>H2_ENHANCE_YOUR_CALM)    # nghttp2 says so
        self.flush()
        if is_flood:
            trouble = "the upstream floods the connection"
        if is_flood or self.session.guarded:
            self.reactor.counted[<int>H2_GUARDED] += 1
        self.end(UPSTREAM_BAD_HEAD, trouble)

    cdef void on_end(self, int code) noexcept:
        self.end_of_transport(CONNECT_REFUSED if self.state == H2_CONNECTING else UPSTREAM_CLOSED)

    cdef void on_broken(self) noexcept:
        self.can_read = self.saw_hangup = True      # answers may have come before
        if not self.saw_eof:
            self.read_turn()
        if not self.is_closed:
            self.end(NO_MEMORY if self.lacks_memory else UPSTREAM_CLOSED, None)

    cdef void on_ready(self) noexcept:
        cdef H2Carried stream = self.first
        cdef H2Carried following
        while stream is not None:
            following = stream.next
            if stream.is_drained_next:
                stream.is_drained_next = False
                stream.go_on()
            stream = following if following is None or following.client is self else self.first
        Connection.on_ready(self)

    cdef void on_leave(self) noexcept:
        if self.is_closed or self.session is None or self.is_broken:
            return
        if self.session.pump() < 0:
            self.end(NO_MEMORY, None)
            return
        if not self.session.wants_read():
            self.give_up()
            return
        if self.n_full:
            self.tell_writable()
        if self.group is not None and self.group.has_waiting() and not self.is_closed:
            self.group.serve(self)
            self.open_more()
            if self.session.wants_pump() and self.session.has_room():
                self.session.pump()
        if self.is_closed:
            return
        if self.n_streams == 0:
            if self.state == H2_DRAINING:
                self.flush()
                if not self.unsent():
                    self.close()
                    return
            self.arm()

    cdef void open_more(self) noexcept:
        try:
            if self.group is not None and self.group.has_waiting():
                self.group.open_connections(self.peer)
        except:
            pass   # ignored: without memory who waits has a timeout

    cdef void tell_writable(self) noexcept:
        cdef H2Carried stream = self.first
        cdef H2Carried following
        while stream is not None and not self.is_closed:
            following = stream.next
            if stream.is_told_full and stream.h2.out.size <= HIGH_WATER // 2:
                stream.is_told_full = False
                self.n_full -= 1
                if stream.owner is not None:
                    stream.owner.on_writable(False)
            stream = following if following is None or following.client is self else self.first

    cdef void tell_settled(self) noexcept:
        cdef H2Carried stream = self.first
        cdef H2Carried following
        while stream is not None:
            following = stream.next
            if stream.awaits_settings:
                stream.awaits_settings = False
                stream.on_settled()
            stream = following if following is None or following.client is self else self.first

    # -- time

    cdef void arm(self) noexcept:
        cdef uint64_t delay_ms = self.peer.h2_ping_timeout_ms if self.pinged_at_ms else self.peer.h2_ping_interval_ms
        cdef uint64_t idle_end_ms = self.idle_at_ms + self.peer.idle_timeout_ms
        cdef uint64_t left_ms = idle_end_ms - self.reactor.now_ms if idle_end_ms > self.reactor.now_ms else 1
        if self.n_streams == 0 and (delay_ms == 0 or left_ms < delay_ms):
            delay_ms = left_ms
        if delay_ms:
            self.reactor.set_timer(&self.timer, delay_ms)
        else:
            timer_clear(&self.timer)

    cdef void on_timeout(self) noexcept:
        cdef uint64_t quiet_ms = self.reactor.now_ms - self.read_at_ms
        if self.state == H2_CONNECTING:
            self.end(CONNECT_TIMEOUT, None)
            return
        if self.n_streams == 0 and self.reactor.now_ms - self.idle_at_ms >= self.peer.idle_timeout_ms:
            if self.state == H2_DRAINING:
                self.close()                      # the upstream does not take what waits
                return
            self.session.goaway(H2_NO_ERROR)      # also if it is pinged, or pings: nobody uses it
            self.drain()
            self.reactor.make_late(self)
            return
        if self.pinged_at_ms:
            if self.read_at_ms <= self.pinged_at_ms:
                self.reactor.counted[<int>H2_PING_TIMEOUTS] += 1
                self.end(UPSTREAM_CLOSED, "the upstream does not answer PING")
                return
            self.pinged_at_ms = 0
        if self.peer.h2_ping_interval_ms and quiet_ms >= self.peer.h2_ping_interval_ms:
            self.suspect()
        else:
            self.arm()

    cdef void suspect(self) noexcept:
        if self.pinged_at_ms or self.session is None or self.is_closed:
            return
        self.pinged_at_ms = self.reactor.now_ms
        self.session.ping()
        self.arm()
        self.reactor.make_late(self)

    # -- ending

    cdef void drain(self) noexcept:
        cdef H2Group group = self.group
        if self.state == H2_OPEN:
            self.state = H2_DRAINING
        if group is not None:
            self.reactor.bury(group)
            self.group = None
            group.leave(self)
        self.reactor.make_late(self)

    cdef void end(self, int kind, str trouble) noexcept:
        cdef H2Group group = self.group
        cdef bint was_connecting = self.state == H2_CONNECTING
        cdef H2Carried stream
        cdef int told
        if self.session is not None and self.session.is_going and not self.is_closed:
            self.session.pump()      # requests that have not left are refused, and tried again
        self.close()
        if group is not None and was_connecting:
            group.on_lost(self, kind, trouble)
        while True:
            stream = self.first
            while stream is not None and stream.is_response_ended and not (
                    stream.is_tunnel and stream.body_done and not stream.h2.is_out_closed):
                stream = stream.next     # all of its answer is here, though its session may not have taken it yet
            if stream is None:
                break
            self.unlink(stream)
            told = kind
            if stream.head_done and kind == UPSTREAM_CLOSED and not stream.is_response_ended:
                told = UPSTREAM_TRUNCATED
            elif stream.head_done and kind == UPSTREAM_BAD_HEAD:
                told = UPSTREAM_BAD_BODY
            elif kind == UPSTREAM_CLOSED and stream.h2.id and not self.session.has_left(&stream.h2):
                told = UPSTREAM_REFUSED      # it waited behind what the upstream did not take
            if trouble is not None:
                stream.trouble = trouble
            stream.fail(told)

    cdef void close(self) noexcept:
        cdef H2Group group = self.group
        if self.is_closed:
            return
        Connection.close(self)
        self.reactor.counted[<int>H2_CONNECTIONS_OPEN] -= 1
        if group is not None:
            if self.state == H2_CONNECTING:
                group.n_connecting -= 1
            self.reactor.bury(group)
            self.group = None
            group.leave(self)

    # -- its streams

    cdef void link(self, H2Carried stream) noexcept:
        stream.client = self
        stream.next = self.first
        if self.first is not None:
            self.first.previous = stream
        self.first = stream
        self.n_streams += 1
        self.n_exchanges += 1

    cdef void unlink(self, H2Carried stream) noexcept:
        if stream.client is None:
            return
        self.reactor.bury(stream)
        if stream.previous is not None:
            stream.previous.next = stream.next
        else:
            self.first = stream.next
        if stream.next is not None:
            stream.next.previous = stream.previous
        stream.next = stream.previous = None
        if stream.is_told_full:
            stream.is_told_full = False
            self.n_full -= 1
        stream.client = None
        self.n_streams -= 1
        if self.n_streams == 0:
            self.idle_at_ms = self.reactor.now_ms
        if not self.is_closed:
            self.reactor.make_late(self)
