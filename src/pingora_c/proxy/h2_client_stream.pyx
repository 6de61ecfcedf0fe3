"""Streams of HTTP/2 to origins. Own what came while their session did not read; know it only as StreamOwner."""
cimport cython

from libc.stdint cimport uint16_t
from libc.string cimport memset
from pingora_c.base.span cimport Span
from pingora_c.h1.encode cimport FRAME_CHUNKED, FRAME_LENGTH, Outgoing
from pingora_c.h1.framing cimport BODY_CHUNKED, BODY_LENGTH, BODY_NONE, BODY_TUNNEL
from pingora_c.h1.upgrade cimport names_websocket
from pingora_c.h2.handshake cimport accept_of, become_switch
from pingora_c.h2.section cimport FieldSection
from pingora_c.h2.session cimport (
    H2_CANCEL, H2_HTTP_1_1_REQUIRED, H2_NO_ERROR, H2_REFUSED_STREAM, H2Stream, h2_code_name,
)
from pingora_c.http.field cimport NAME_CONTENT_LENGTH, Field
from pingora_c.http.header_block cimport HeaderBlock, block_field, block_find_known
from pingora_c.http.message cimport HTTP2_MINOR, METHOD_HEAD, RequestHead
from pingora_c.mem.byte_queue cimport queue_drop, queue_free, queue_front, queue_push
from pingora_c.net.timer cimport timer_clear, timer_init, timer_unlink
from pingora_c.proxy.failure cimport (
    CLIENT_BAD_UPGRADE, CONNECT_TIMEOUT, FIRST_BYTE_TIMEOUT, NO_MEMORY, NO_UPGRADE, UPSTREAM_BAD_BODY,
    UPSTREAM_BAD_HEAD, UPSTREAM_CLOSED, UPSTREAM_REFUSED, UPSTREAM_TIMEOUT, UPSTREAM_TRUNCATED, UPSTREAM_WRITE_TIMEOUT,
)
from pingora_c.proxy.h2_client cimport NARROW_WINDOW, WIDE_WINDOW, H2ClientSession, H2Group
from pingora_c.proxy.h2_groups cimport group_of
from pingora_c.proxy.h2_request cimport RequestFields, request_fields
from pingora_c.proxy.stream cimport HIGH_WATER
from pingora_c.stats.counters cimport H2_REFUSED_STREAMS, H2_WAITS
from pingora_c.upstream.peer cimport PEER_H2H1

cdef enum:
    INTERIM_MAX = 16
    HELD_PART = 4000             # bytes that fit into a small buffer
    HELD_LITTLE = 8000


cdef void fire_timeout(void* owner) noexcept:
    cdef H2ClientStream stream = <H2ClientStream>owner
    stream.on_timeout()


@cython.final
cdef class H2ClientStream(H2Carried):
    def __cinit__(self):
        memset(&self.h2, 0, sizeof(H2Stream))
        memset(&self.held, 0, sizeof(ByteQueue))
        self.h2.owner = <void*>self
        timer_init(&self.timer, fire_timeout, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.timer)
        queue_free(&self.h2.out)
        queue_free(&self.held)

    cdef void begin(self, H2Client client) noexcept:
        self.group = None
        self.trouble = None
        client.link(self)
        self.window = client.session.limits.window
        self.widen_at = self.window // 2
        if client.is_wide and self.allowance is not None:
            self.promised = self.window - NARROW_WINDOW
            self.allowance.promised += self.promised
        self.awaits_settings = self.asks_websocket and not client.session.has_settings
        if not self.awaits_settings:
            timer_clear(&self.timer)

    cdef bint may_be_wide(self) noexcept:
        return self.allowance is None or self.allowance.left(self.peer.h2_window) >= WIDE_WINDOW

    cdef void on_settled(self) noexcept:
        timer_clear(&self.timer)
        if self.owner is not None:
            self.owner.on_connected()

    # -- the request

    cdef int send_request(self, RequestHead head, const Outgoing* how) noexcept:
        cdef int code = -1
        if self.client is None:
            return 0      # it failed meanwhile
        if not how.is_upgrade:
            self.to_head = head.method_id == METHOD_HEAD
            return self.submit(head, how, NULL, how.framing == FRAME_CHUNKED or (
                how.framing == FRAME_LENGTH and how.length != 0))
        try:
            code = self.ask_websocket(head, how)
        except:
            pass   # ignored: no memory, reported as -1
        return code

    cdef int ask_websocket(self, RequestHead head, const Outgoing* how) except -1:
        if not names_websocket(&head.block) or not self.client.session.peer_takes_connect():
            self.trouble = "the upstream does not announce extended CONNECT"
            self.fail(NO_UPGRADE)
            return 0
        self.accept = accept_of(head)
        if self.accept is None:
            self.trouble = "a WebSocket handshake has one Sec-WebSocket-Key"
            self.fail(CLIENT_BAD_UPGRADE)
            return 0
        if self.submit(head, how, b"websocket", True) < 0:
            raise MemoryError
        return 0

    cdef int submit(self, RequestHead head, const Outgoing* how, const char* protocol, bint has_body) noexcept:
        cdef RequestFields made
        cdef int code
        if self.client.group is not None:
            self.h2.wider = self.widening(self.client.group.usual_bytes)
        if request_fields(head, how, self.client.transport.is_secure, protocol, &made) < 0:
            return -1
        code = self.client.session.submit_request(&self.h2, made.fields, made.n, has_body)
        if code == -1:
            return -1
        self.client.reactor.make_late(self.client)
        self.wait()
        if code < 0:
            self.client.drain()
            self.fail(UPSTREAM_REFUSED)      # GOAWAY came while a hook was at work
        return 0

    cdef int send_body(self, const char* data, size_t size) noexcept:
        if self.client is None or self.h2.id == 0:
            return 0
        self.client.reactor.make_late(self.client)
        return self.client.session.send_data(&self.h2, data, size)

    cdef int send_end(self, Trailers trailers) noexcept:
        cdef const HeaderBlock* block
        if self.client is None or self.h2.id == 0 or self.accept is not None and not self.head_done:
            return 0      # before it is a tunnel a WebSocket has no end
        self.trailers_out = trailers
        block = NULL if trailers is None else &trailers.block
        self.client.session.send_end(&self.h2, block)
        self.client.reactor.make_late(self.client)
        self.wait()
        return 0

    cdef void cut_request(self) noexcept:
        # HTTP/2 has no end of one side that says "cut": the answer is lost with it
        if self.owner is not None:
            self.fail(UPSTREAM_TRUNCATED if self.head_done else UPSTREAM_CLOSED)

    cdef bint is_full(self) noexcept:
        if self.h2.out.size <= HIGH_WATER:
            return False
        if not self.is_told_full and self.client is not None:
            self.is_told_full = True
            self.client.n_full += 1
        return True

    cdef size_t unsent(self) noexcept:
        return self.h2.out.size

    # -- the answer

    cdef void ask_room(self) noexcept:
        self.asks_room = True

    cdef void take_section(self, bint is_end) noexcept:
        cdef int code = -1
        if self.owner is None:
            return
        self.got_bytes = True
        self.wait()
        try:
            code = self.take_head(is_end)
        except:
            pass   # ignored: no memory, reported below
        if code < 0:
            self.fail(NO_MEMORY)

    cdef int take_head(self, bint is_end) except -1:
        cdef const FieldSection* section = &self.client.session.section
        cdef ResponseHead head
        cdef Trailers trailers = None
        cdef Span none = Span(0, 0)
        cdef int status = section.status
        cdef bint is_switch = self.accept is not None and 200 <= status < 300
        if status == 0:
            if section.n:
                trailers = Trailers.of(section.bytes, section.used, section.fields, section.n)
            self.take_end(trailers)
            return 0
        if status < 100 or status > 599 or status == 101 or self.head_done:
            self.fail(UPSTREAM_BAD_HEAD)
            return 0
        if is_switch:
            status = 101
        head = ResponseHead.new(<uint16_t>status)
        if head.load(section.bytes, section.used, <uint16_t>status, none, HTTP2_MINOR, section.fields, section.n) < 0:
            raise MemoryError
        if is_switch:
            become_switch(head, self.accept)
        elif status < 200:
            self.n_interim += 1
            if self.n_interim > INTERIM_MAX:
                self.fail(UPSTREAM_BAD_HEAD)
            else:
                self.owner.on_interim(head)
            return 0
        self.head_done = True
        self.frame(head, is_end)
        if is_switch:
            self.is_tunnel = True
            self.framing.kind = BODY_TUNNEL
        elif self.accept is not None:
            self.client.session.send_end(&self.h2, NULL)     # it is no tunnel: nothing of the client's follows
        self.is_response_ended = is_end
        self.settle_window()
        self.owner.on_response(head, &self.framing)
        if is_end and self.owner is not None:
            self.end_body(None)
        return 0

    cdef void settle_window(self) noexcept:
        """The head tells what is to come: as much may come at once, and no more was promised."""
        cdef size_t size = self.wanted_window() if self.framing.kind == BODY_LENGTH else 0
        cdef size_t needed = size - NARROW_WINDOW if size > NARROW_WINDOW else 0
        if self.framing.kind == BODY_CHUNKED or self.framing.kind == BODY_TUNNEL:
            return
        if self.promised > needed:
            self.allowance.promised -= self.promised - needed
            self.promised = needed
        self.client.session.widen(&self.h2, self.widening(size))

    cdef size_t wanted_window(self) noexcept:
        # One more than the body: its end may come behind it, in an empty frame, which origins on nghttp2 hold back
        # while the window is closed.
        return self.framing.length + 1

    cdef size_t widening(self, size_t size) noexcept:
        cdef size_t more = 0
        size = min(size, <size_t>self.peer.h2_window)
        if size > self.window:
            more = size - self.window
            if self.allowance is not None:
                more = self.allowance.promise(more, self.peer.h2_window)
                self.promised += more
            self.window += more
        return more

    cdef void frame(self, ResponseHead head, bint is_end) noexcept:
        """How long the body is; nghttp2 has checked Content-Length, and holds DATA against it."""
        cdef Py_ssize_t row = block_find_known(&head.block, NAME_CONTENT_LENGTH, 0)
        cdef const Field* field
        cdef uint32_t i
        memset(&self.framing, 0, sizeof(self.framing))
        self.framing.keep_alive = True
        if row >= 0:
            field = block_field(&head.block, <uint32_t>row)
            self.framing.has_length = True
            for i in range(field.value_size):
                self.framing.length = self.framing.length * 10 + <uint64_t>(head.block.base[field.value_at + i] - 48)
        if is_end or self.to_head or head.status_code == 204 or head.status_code == 304:
            self.framing.kind = BODY_NONE
        elif self.framing.has_length:
            self.framing.kind = BODY_LENGTH if self.framing.length else BODY_NONE
        else:
            self.framing.kind = BODY_CHUNKED

    cdef void take_data(self, const char* data, size_t size) noexcept:
        cdef H2ClientSession session = self.client.session
        cdef size_t passed = 0
        if self.owner is None:
            session.consume(&self.h2, size)
            return
        self.wait()
        self.came += size
        if self.came >= self.widen_at:
            session.widen(&self.h2, self.widening(
                self.wanted_window() if self.framing.kind == BODY_LENGTH else <size_t>-1))
            self.widen_at = self.came + self.window
        if not self.body_paused and self.held.size == 0:
            passed = self.pass_on(data, size)
        if self.body_paused:
            self.owed += passed    # the receiver is full: it has them, and the window stays closed by so much
        else:
            self.give_back(passed)
        if passed < size and self.owner is not None:
            self.hold(data + passed, size - passed)

    cdef void give_back(self, size_t size) noexcept:
        if self.client is None:
            return           # let go meanwhile
        if self.is_padded or self.framing.kind != BODY_LENGTH or self.framing.length >= self.window:
            self.client.session.consume(&self.h2, size)
        else:
            self.kept_back += size

    cdef void on_padding(self) noexcept:
        # nghttp2 gives padding back, but tells the origin only when that is half of the window
        self.is_padded = True
        if self.kept_back:
            self.client.session.consume(&self.h2, self.kept_back)
            self.kept_back = 0

    cdef size_t pass_on(self, const char* data, size_t size) noexcept:
        cdef size_t at = 0, part
        while at < size and not self.body_paused and self.owner is not None:
            part = size - at
            if self.asks_room:
                part = min(part, self.owner.room())
                if part == 0:
                    self.body_paused = True
                    break
            self.owner.on_body(False, data + at, part)
            at += part
        return at

    cdef void hold(self, const char* data, size_t size) noexcept:
        cdef size_t part
        while size:
            # large buffers only for what is much, or a few bytes of each stream would hold them
            part = min(size, <size_t>HELD_PART) if self.held.size < HELD_LITTLE else size
            if queue_push(&self.held, data, part) < 0:
                self.fail(NO_MEMORY)
                return
            data += part
            size -= part

    cdef void take_end(self, Trailers trailers) noexcept:
        self.is_response_ended = True
        if self.client is not None and self.client.group is not None:
            self.client.group.note_answer(self.came)
        if self.held.size or self.body_paused and self.framing.kind != BODY_NONE:
            self.trailers_in = trailers
        else:
            self.end_body(trailers)

    cdef void end_body(self, Trailers trailers) noexcept:
        self.body_done = True
        if self.owner is not None:
            self.owner.on_body_end(False, trailers)

    cdef void pause_body(self) noexcept:
        self.body_paused = True

    cdef void resume_body(self) noexcept:
        if not self.body_paused:
            return
        self.body_paused = False
        if self.client is None:
            return
        self.wait()
        if self.held.size or self.owed or (self.is_response_ended and not self.body_done):
            self.is_drained_next = True
            self.client.reactor.make_ready(self.client)

    cdef void go_on(self) noexcept:
        """What was held goes to the owner, as long as that takes it."""
        cdef H2Client client = self.client
        cdef const char* front
        cdef size_t size = 0, given = self.owed
        self.owed = 0
        while self.held.size and not self.body_paused and self.owner is not None:
            front = queue_front(&self.held, &size)
            size = self.pass_on(front, size)
            if self.held.size == 0:
                break                            # it was let go meanwhile
            if client.reactor.n_gather:
                client.reactor.flush_dirty()     # it may point into what is dropped now
            queue_drop(&self.held, size)
            given += size
        if self.body_paused:
            self.owed = given
        elif given:
            self.give_back(given)
        if self.is_response_ended and not self.body_done and not self.held.size and not self.body_paused:
            if self.is_cut():
                self.fail(UPSTREAM_CLOSED)
            else:
                self.end_body(self.trailers_in)
        if not client.is_closed:
            client.reactor.make_late(client)

    cdef void on_closed(self, uint32_t code) noexcept:
        """nghttp2 knows the stream no more."""
        cdef H2Client client = self.client
        cdef int kind = UPSTREAM_TRUNCATED if self.head_done else UPSTREAM_CLOSED
        self.h2.out_ended = True
        if self.is_response_ended:
            if code == <uint32_t>H2_NO_ERROR and not self.h2.is_reset_here:
                self.h2.is_out_closed = True       # it needs nothing more of the client's (RFC 9113 §8.1)
            if self.is_cut():
                self.note_reset(code)
                if self.body_done:
                    self.fail(UPSTREAM_CLOSED)     # else when its session has taken what came
                return
            if self.body_done and client is not None:
                timer_clear(&self.timer)     # all has come, and hooks may be at work on it still
                client.unlink(self)
            if self.is_tunnel and self.owner is not None:
                self.owner.on_writable(False)      # all that was for the origin has gone
            return
        if client is None:
            return
        if code == <uint32_t>H2_REFUSED_STREAM and not self.h2.is_reset_here:
            client.reactor.counted[<int>H2_REFUSED_STREAMS] += 1
            kind = UPSTREAM_REFUSED
        elif code == <uint32_t>H2_HTTP_1_1_REQUIRED and not self.head_done:
            kind = UPSTREAM_REFUSED
            if self.peer.spoken == PEER_H2H1 and client.group is not None:
                client.group.pool.h1_origins.note(client.group.origin, True)
                client.drain()
        elif self.h2.is_reset_here:
            kind = UPSTREAM_BAD_BODY if self.head_done else UPSTREAM_BAD_HEAD
        self.note_reset(code)
        self.fail(kind)

    cdef bint is_cut(self) noexcept:
        return self.is_tunnel and not self.h2.is_out_closed and self.client is not None and (
            self.h2.id == 0 or self.client.is_closed)

    cdef void note_reset(self, uint32_t code) noexcept:
        if self.h2.is_reset_here:
            return
        self.got_bytes = True      # an answer of a kind, and no connection that had died
        try:
            self.trouble = f"the upstream reset the stream: {h2_code_name(code)}"
        except:
            pass   # ignored: the log says less

    cdef void on_framed(self) noexcept:
        self.wait()

    # -- time and ending

    cdef void wait(self) noexcept:
        if self.client is not None:
            self.waits_since_ms = self.client.reactor.now_ms
            self.client.reactor.set_timer(&self.timer, self.wait_ms)

    cdef void on_timeout(self) noexcept:
        if self.client is None or self.awaits_settings:
            self.fail(CONNECT_TIMEOUT)
        elif self.is_tunnel and not (self.is_response_ended and self.h2.out.size):
            self.wait()      # the client's side watches; it has ended only if nobody is left who would notice
        elif self.body_paused or not self.h2.out_ended and not self.h2.out.size and (
                self.head_done or not self.asks_websocket):
            self.wait()      # it is us who do not read, or do not send
        elif self.h2.out.size or self.client.is_blocked:
            self.fail_after(self.peer.write_timeout_ms, UPSTREAM_WRITE_TIMEOUT)
        elif self.got_bytes:
            self.fail_after(self.peer.read_timeout_ms, UPSTREAM_TIMEOUT)
        else:
            self.fail_after(self.peer.first_byte_timeout_ms, FIRST_BYTE_TIMEOUT)

    cdef void fail_after(self, uint64_t limit_ms, int kind) noexcept:
        cdef H2Client client = self.client
        cdef uint64_t waited_ms = client.reactor.now_ms - self.waits_since_ms
        if waited_ms < limit_ms:
            client.reactor.set_timer(&self.timer, limit_ms - waited_ms)
            return
        if client.read_at_ms <= self.waits_since_ms:
            client.suspect()       # nothing came for anybody
        self.fail(kind)

    cdef void fail(self, int kind) noexcept:
        cdef StreamOwner owner = self.owner
        self.let_go()
        if owner is not None:
            owner.on_failure(False, kind)

    cdef void let_go(self) noexcept:
        cdef H2Client client = self.client
        cdef H2Group group = self.group
        cdef uint32_t code
        timer_clear(&self.timer)
        if self.allowance is not None:
            self.allowance.promised -= self.promised
            self.allowance = None
        if group is not None:
            self.group = None
            try:
                group.waiting.remove(self)
                group.go_if_unused()
            except:
                pass   # ignored: it waits no more
        if client is not None:
            if self.h2.id:
                if not client.is_closed and not (self.body_done and self.h2.is_out_closed):
                    code = H2_NO_ERROR if self.body_done else H2_CANCEL
                    client.session.reset(&self.h2, code)
                client.session.detach(&self.h2)
            client.unlink(self)
        self.is_drained_next = False
        if self.held.size and client is not None and client.reactor.n_gather:
            client.reactor.flush_dirty()         # it may point there
        queue_free(&self.held)

    cdef void release(self, bint is_complete) noexcept:
        self.owner = None
        if self.is_tunnel and is_complete and self.client is not None and not self.client.is_closed:
            if self.is_response_ended:
                self.client.session.send_end(&self.h2, NULL)
            self.client.session.pump()       # RST_STREAM would overtake what waits
        self.let_go()


cdef int open_h2_stream(Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner, bint asks_websocket) except -2:
    cdef H2ClientStream stream = H2ClientStream.__new__(H2ClientStream)
    cdef H2Group group
    cdef H2Client client
    cdef int code
    stream.owner = owner
    stream.protocol = b"h2"
    stream.is_shared = True
    stream.peer = peer
    stream.asks_websocket = asks_websocket
    stream.allowance = owner.allowance()
    stream.wait_ms = min(peer.first_byte_timeout_ms, peer.read_timeout_ms, peer.write_timeout_ms)
    group = group_of(reactor, pool, peer, owner.greeting)
    client = group.free_client(stream)
    if client is not None and (client.is_wide or not group.opens_wide(stream)):
        stream.begin(client)
        owner.opened = stream
        if not stream.awaits_settings:
            return 1
        reactor.set_timer(&stream.timer, peer.connect_timeout_ms)
        return 0
    stream.group = group
    group.waiting.append(stream)
    try:
        code = group.open_connections(peer)
    except:
        stream.let_go()
        raise
    if group.is_full() and group.n_connecting == 0:
        reactor.counted[<int>H2_WAITS] += 1
        stream.trouble = "all connections are full"
    elif code < 0 and group.n_connecting == 0:
        if client is None:
            stream.let_go()
            return code
        reactor.make_late(client)      # it has room still, though it is no wide one
    owner.opened = stream
    reactor.set_timer(&stream.timer, peer.connect_timeout_ms)
    return 0
