"""HTTP/2 server connections. Own the socket of a client and the streams on it; know sessions only as StreamOwner."""
cimport cython

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.set cimport PySet_GET_SIZE
from pingora_c.h1.framing cimport BODY_NONE
from pingora_c.h1.head cimport H1_HEAD_TOO_LARGE, H1_TOO_MANY_FIELDS
from pingora_c.h2.answer cimport submit_answer
from pingora_c.h2.session cimport (
    H2_CANCEL, H2_ENHANCE_YOUR_CALM, H2_INTERNAL_ERROR, H2_NO_ERROR, H2_REFUSED_STREAM,
)
from pingora_c.http.message cimport METHOD_HEAD, ResponseHead
from pingora_c.mem.byte_queue cimport queue_push
from pingora_c.net.connection cimport Connection
from pingora_c.net.timer cimport timer_clear
from pingora_c.proxy.failure cimport (
    CLIENT_BAD_BODY, CLIENT_GONE, CLIENT_READS_SLOWLY, CLIENT_TIMEOUT, NO_MEMORY, OK, TUNNEL_TIMEOUT, failure_status,
)
from pingora_c.proxy.grpc cimport as_grpc, holds_grpc
from pingora_c.proxy.h2_incoming cimport read_request
from pingora_c.proxy.h2_limits cimport overdue, session_limits, sweep_ms
from pingora_c.proxy.h2_stream cimport ROOM, H2Carrier, H2ServerStream
from pingora_c.proxy.pace cimport pace_asked, pace_begin, pace_came, pace_moved
from pingora_c.proxy.refusal cimport (
    REFUSED_HEAD, REFUSED_NO_MEMORY, REFUSED_SLOW_HEAD, refusal_reason, refusal_status,
)
from pingora_c.proxy.response cimport Response
from pingora_c.proxy.server_connection cimport ServerConnection
from pingora_c.proxy.stream cimport HIGH_WATER, Allowance, StreamOwner
from pingora_c.stats.counters cimport (
    ANSWERS, CLOSED_FLOOD, CLOSED_HTTP2_ERROR, CLOSED_IDLE, CLOSED_READS_SLOWLY, CLOSED_REQUESTS, CLOSED_STALLED,
    HTTP2_CONNECTIONS, REFUSALS,
)

cdef enum:
    LOW_WATER = HIGH_WATER // 2
    HEADS_MOST = 16            # requests that begin before others have their turn
    HEADS_LEAST = 4            # the same, while they open connections to origins, and at first
    ROUNDS = 4                 # of framing and writing in one entry
    LINGER_MS = 2000
    DRAIN_MS = 1000            # from the first GOAWAY to the last: requests that were on their way have come


@cython.final
cdef class ServerSession(H2Session):
    cdef int put(self, const char* data, size_t size) noexcept:
        return (<H2Server>self.server).write_copy(data, size)

    cdef bint has_room(self) noexcept:
        cdef H2Server server = <H2Server>self.server
        if server.is_ending:
            return True        # for GOAWAY, and the little that goes before it: no DATA follows `terminate`
        return server.out.size < ROOM and not (server.is_blocked and server.out.size > HIGH_WATER)

    cdef void on_section(self, H2Stream* stream, int32_t stream_id, bint is_end) noexcept:
        (<H2Server>self.server).take_section(stream, stream_id, is_end, False)

    cdef void on_section_refused(self, H2Stream* stream, int32_t stream_id, bint is_end) noexcept:
        (<H2Server>self.server).take_section(stream, stream_id, is_end, True)

    cdef void on_data(self, H2Stream* stream, const char* data, size_t size) noexcept:
        (<H2Server>self.server).take_data(<H2ServerStream>stream.owner, data, size)

    cdef void on_end(self, H2Stream* stream) noexcept:
        (<H2Server>self.server).take_end(<H2ServerStream>stream.owner, None)

    cdef void on_closed(self, H2Stream* stream, uint32_t code) noexcept:
        (<H2Server>self.server).take_close(<H2ServerStream>stream.owner, code)

    cdef void on_settings(self) noexcept:
        (<H2Server>self.server).line_moved = True

    cdef void on_window(self) noexcept:
        (<H2Server>self.server).line_moved = True

    cdef void on_framed(self, H2Stream* stream, size_t size) noexcept:
        (<H2Server>self.server).note_framed(<H2ServerStream>stream.owner, size)


@cython.final
cdef class H2Server(H2Carrier):
    cdef int take_over(self, ServerConnection old) except -1:
        cdef ServerSession session = ServerSession.__new__(ServerSession)
        self.streams = set()
        self.ending = []
        self.relieved = []
        self.resumed = []
        self.lost = []
        self.line = []
        self.promises = Allowance.__new__(Allowance)
        session.server = <void*>self
        session.now_ms = old.reactor.now_ms
        session_limits(&session.limits, &old.application.limits)
        session.begin(True)
        self.heads_given = session.guard.heads_left = HEADS_LEAST
        self.session = session
        self.adopt(old)
        self.reactor.counted[<int>HTTP2_CONNECTIONS] += 1
        self.go_idle()
        self.reactor.make_late(self)
        return 0

    cdef void show(self, const char* data, size_t size) noexcept:
        cdef size_t used = self.on_bytes(data, size)
        if used < size and not self.is_closed and self.keep(data + used, size - used) < 0:
            self.fail(NO_MEMORY)
        if not self.is_closed and (self.can_read or used < size):
            self.reactor.make_ready(self)

    cdef size_t on_bytes(self, const char* data, size_t size) noexcept:
        cdef int code
        if self.state != H2_OPEN or self.is_ending:
            return size
        self.session.now_ms = self.reactor.now_ms
        code = self.session.receive(data, size)
        if code < 0:
            self.is_ending = True
            self.count_end(self.session.guarded)
        if self.is_closed:
            return size
        if self.session.section.bytes == NULL:
            self.head_since_ms = 0
        elif self.head_since_ms == 0:
            self.head_since_ms = self.reactor.now_ms
            if not self.is_sweeping:
                self.sweep()
        if self.session.n_unread:
            self.pause()
            self.reactor.make_ready(self)
        if (code < 0 or self.session.wants_pump() or self.session.is_going
                or self.session.guard.heads_left < self.heads_given or PyList_GET_SIZE(self.line)):
            self.reactor.make_late(self)
        return size - self.session.n_unread

    cdef void on_leave(self) noexcept:
        if self.has_dialed:
            self.has_dialed = False
            self.heads_given = HEADS_LEAST
        elif self.session.guard.heads_left == 0:
            self.heads_given = min(2 * self.heads_given, <uint32_t>HEADS_MOST)
        self.session.guard.heads_left = self.heads_given
        self.frame()

    cdef void frame(self) noexcept:
        """Frame what was submitted and write it in one call."""
        cdef int code = 0
        cdef int rounds = 0
        if self.is_closed or self.state != H2_OPEN:
            return
        while True:
            code = self.session.pump()
            if code == 0 and self.reset_answered():
                code = self.session.pump()
            self.flush()
            rounds += 1
            if code < 0 or self.is_blocked or self.is_broken or self.is_closed or not self.session.wants_pump():
                break
            if rounds == ROUNDS:
                self.reactor.make_late(self)     # others have their turn first
                break
        if self.is_closed:
            return
        if code < 0 or self.is_ending or self.session.is_over():
            if not self.is_ending and self.session.sent_goaway_code:
                self.count_end(self.session.sent_goaway_code)     # nghttp2 found why
            self.fail_streams(NO_MEMORY if self.session.is_broken else CLIENT_GONE)
            self.begin_close()
            return
        if PyList_GET_SIZE(self.line):
            self.serve_line()
        if PyList_GET_SIZE(self.relieved):
            self.relieve()
        if self.said_goaway and self.has_no_stream():
            self.begin_close()

    cdef void count_end(self, uint32_t code) noexcept:
        cdef int reason = CLOSED_FLOOD if code == H2_ENHANCE_YOUR_CALM else CLOSED_HTTP2_ERROR
        self.reactor.counted[reason] += 1

    cdef bint reset_answered(self) noexcept:
        """Streams whose answer has ended before their request: the client may stop (RFC 9113 §8.1)."""
        cdef H2ServerStream stream
        cdef bint has_reset = False
        if PyList_GET_SIZE(self.ending) == 0:
            return False
        try:
            for stream in list(self.ending):
                if stream.is_gone or stream.has_ended or stream.h2.is_out_closed:
                    self.ending.remove(stream)
                    if not stream.is_gone and not stream.has_ended:
                        self.drop(stream, H2_NO_ERROR)
                        has_reset = True
        except:
            pass   # ignored: without memory they end with the connection
        return has_reset

    cdef void on_writable(self) noexcept:
        self.note_drained()
        if self.state == H2_FLUSHING:
            self.linger()
        else:
            self.reactor.make_late(self)

    cdef void on_ready(self) noexcept:
        cdef H2ServerStream stream
        cdef list resumed = self.resumed
        self.is_paused = False
        if PyList_GET_SIZE(resumed):
            try:
                self.resumed = []
                for stream in resumed:
                    stream.is_listed = False
                    stream.deliver()
            except:
                pass   # ignored: no memory; the streams time out
        self.tell_lost()
        if PyList_GET_SIZE(self.line):
            self.reactor.make_late(self)
        Connection.on_ready(self)

    # -- heads and bodies that come

    cdef void take_section(self, H2Stream* at, int32_t stream_id, bint is_end, bint is_over) noexcept:
        cdef int refusal = 0
        if at != NULL:
            self.take_trailers(<H2ServerStream>at.owner, is_over)
            return
        if self.session.section.method.size == 0 and not is_over:
            return                # trailers of a stream that was let go
        if is_over:
            refusal = REFUSED_HEAD - <int>H1_TOO_MANY_FIELDS
            if self.session.section.lacks_memory:
                refusal = REFUSED_NO_MEMORY
            elif self.session.section.charged > self.session.limits.head_bytes:
                refusal = REFUSED_HEAD - <int>H1_HEAD_TOO_LARGE
        self.head_at_us = self.reactor.now_us
        if self.head_since_ms and self.reactor.now_ms > self.head_since_ms:
            self.head_at_us -= 1000 * (self.reactor.now_ms - self.head_since_ms)
        self.take_head(stream_id, is_end, refusal)

    cdef H2ServerStream new_stream(self, int32_t stream_id):
        """A stream that is attached and listed, None without memory."""
        cdef H2ServerStream stream = H2ServerStream.__new__(H2ServerStream)
        self.streams.add(stream)
        stream.server = self
        stream.h2.owner = <void*>stream
        stream.out_left = -1
        if self.session.attach(&stream.h2, stream_id) < 0:
            self.forget(stream)
            return None
        return stream

    cdef void take_head(self, int32_t stream_id, bint is_end, int refusal) noexcept:
        cdef H2ServerStream stream = None
        cdef RequestHead head = None
        cdef bint is_https = self.is_trusted or self.transport.is_secure
        try:
            head = RequestHead.new()
            stream = self.new_stream(stream_id)
        except:
            pass   # ignored: no memory, dealt with below
        if stream is None:
            self.is_ending = True
            self.session.terminate(H2_INTERNAL_ERROR)
            return
        stream.has_ended = is_end
        if self.n_sessions >= self.session.limits.streams:
            self.drop(stream, H2_REFUSED_STREAM)      # it has reset streams whose sessions have not ended yet
            return
        self.n_requests += 1
        if self.n_requests == self.application.limits.requests:
            self.reactor.counted[<int>CLOSED_REQUESTS] += 1
            self.drain()
        if refusal == 0:
            refusal = read_request(&self.session.section, is_end, is_https, self.application.takes_connect,
                                   self.application.limits.target_bytes, head, &stream.framing)
        if refusal == 0:
            refusal = self.objection(head)
        if refusal:
            self.refuse(stream, refusal, head.method_id == METHOD_HEAD)
            return
        stream.is_connect = stream.framing.upgrade
        self.begin(stream, head)

    cdef void begin(self, H2ServerStream stream, RequestHead head) noexcept:
        cdef uint32_t n_sources = self.reactor.n_sources
        stream.is_client = True
        stream.is_shared = True
        stream.to_head = head.method_id == METHOD_HEAD
        stream.body_done = stream.framing.kind == BODY_NONE
        stream.awaits_continue = stream.framing.expects
        pace_begin(&stream.pace, self.reactor.now_ms)
        self.n_sessions += 1
        if not self.is_sweeping:
            self.sweep()
        if self.application.begin(self, stream, head) < 0:
            self.n_sessions -= 1
            self.refuse(stream, REFUSED_NO_MEMORY, stream.to_head)
        self.has_dialed |= self.reactor.n_sources > n_sources

    cdef void refuse(self, H2ServerStream stream, int refusal, bint asks_head) noexcept:
        """Answer a message that no session saw."""
        cdef size_t size = 0
        cdef bint is_sent = False
        try:
            size = self.write_refusal(stream, refusal, asks_head)
            if not stream.has_ended:
                self.ending.append(stream)
            is_sent = True
        except:
            pass   # ignored: without memory for an answer the stream ends without one
        if not is_sent:
            self.drop(stream, H2_INTERNAL_ERROR)
        self.reactor.counted[<int>REFUSALS + refusal] += 1
        self.reactor.counted[<int>ANSWERS + refusal_status(refusal) // 100] += 1
        self.application.on_refused(self, refusal, size)
        if not self.is_sweeping:
            self.sweep()

    cdef size_t write_refusal(self, H2ServerStream stream, int refusal, bint asks_head) except? 1:
        cdef const char* reason = refusal_reason(refusal)
        cdef int status = refusal_status(refusal)
        cdef Response page = self.application.pages.page(status, reason)
        cdef ResponseHead head
        cdef bytes body
        cdef bint has_body
        cdef size_t size
        page = as_grpc(holds_grpc(&self.session.section), self.application.pages.with_reason(page, reason), reason)
        body = page.body
        size = PyBytes_GET_SIZE(body)
        has_body = size > 0 and not asks_head
        head = page.head
        if submit_answer(self.session, &stream.h2, head, size, has_body, False) < 0:
            raise MemoryError
        if not has_body:
            return 0
        if self.session.send_kept(&stream.h2, body, size) < 0:
            raise MemoryError
        self.session.send_end(&stream.h2, NULL)
        return size

    cdef void take_trailers(self, H2ServerStream stream, bint is_over) noexcept:
        cdef Trailers trailers = None
        if is_over:
            if stream.owner is not None:
                stream.owner.on_failure(True, CLIENT_BAD_BODY)
            else:
                self.drop(stream, H2_ENHANCE_YOUR_CALM)
            return
        try:
            if self.session.section.n and stream.owner is not None and not stream.is_tunnel:
                trailers = Trailers.of(self.session.section.bytes, self.session.section.used,
                                       self.session.section.fields, self.session.section.n)
        except:
            pass   # ignored: without memory they are dropped, as RFC 9110 §6.5.1 allows
        self.take_end(stream, trailers)

    cdef void take_data(self, H2ServerStream stream, const char* data, size_t size) noexcept:
        if stream.owner is None or stream.is_deaf:
            self.session.drop_data(&stream.h2, size)      # RST_STREAM follows the answer
            return
        if stream.body_paused or stream.waiting.size or stream.body_done:
            if queue_push(&stream.waiting, data, size) < 0:
                stream.drop_body()         # the answer has its room
                stream.is_deaf = True
                stream.owner.on_failure(True, NO_MEMORY)
            return
        stream.awaits_continue = False
        pace_came(&stream.pace, size, self.reactor.now_ms)
        stream.owner.on_body(True, data, size)
        self.session.consume(&stream.h2, size)

    cdef void take_end(self, H2ServerStream stream, Trailers trailers) noexcept:
        stream.has_ended = True
        if stream.owner is None or stream.is_deaf or stream.body_done and not stream.is_connect:
            return
        if stream.body_paused or stream.waiting.size or stream.body_done:
            stream.in_trailers = trailers
            stream.end_waits = True
            return
        stream.body_done = True
        stream.owner.on_body_end(True, trailers)

    cdef void take_close(self, H2ServerStream stream, uint32_t code) noexcept:
        cdef bint is_ours = stream.h2.is_reset_here
        stream.is_heard_out = (stream.is_tunnel and stream.has_ended and stream.h2.is_out_closed and not is_ours
                               and code == H2_NO_ERROR)
        if stream.is_heard_out and stream.owner is not None:
            self.hear_out(stream)
        self.forget(stream)
        if stream.owner is not None and not stream.is_heard_out:
            # one that nghttp2 reset is malformed: its length, or what came behind its end
            stream.owner.on_failure(True, CLIENT_BAD_BODY if is_ours else CLIENT_GONE)
            if is_ours and stream.head_sent and stream.owner is not None:
                self.list_lost(stream, CLIENT_GONE)      # its answer went on, but nobody is left to take it

    cdef void hear_out(self, H2ServerStream stream) noexcept:
        try:
            self.note_local()
            self.application.heard_out.add(stream)
        except:
            pass   # ignored: without memory its end is not waited for

    cdef void note_framed(self, H2ServerStream stream, size_t size) noexcept:
        pace_moved(&stream.pace, size, self.reactor.now_ms)
        self.line_moved = True
        if stream.was_full and stream.h2.out.size <= LOW_WATER:
            stream.was_full = False
            try:
                self.relieved.append(stream)
            except:
                pass   # ignored: without memory its limit ends it
            self.reactor.make_late(self)

    cdef void forget(self, H2ServerStream stream) noexcept:
        stream.is_gone = True
        if stream is not self.delivering:
            stream.drop_body()
        self.line_moved = True
        self.reactor.bury(stream)
        try:
            self.streams.discard(stream)
        except:
            pass   # ignored: discarding allocates nothing
        if PySet_GET_SIZE(self.streams) == 0:
            self.go_idle()

    cdef void drop(self, H2ServerStream stream, uint32_t code) noexcept:
        self.session.reset(&stream.h2, code)
        self.session.detach(&stream.h2)
        self.forget(stream)
        self.reactor.make_late(self)

    # -- ending

    cdef bint is_idle(self) noexcept:
        return self.n_sessions == 0

    cdef void drain(self) noexcept:
        """Tell the client that the connection ends, and take what is on its way."""
        if self.state != H2_OPEN or self.drain_at_ms:
            return
        self.drain_at_ms = self.reactor.now_ms
        self.session.announce_goaway()
        self.reactor.make_late(self)
        self.sweep()

    cdef void close_if_idle(self) noexcept:
        if self.state == H2_OPEN and self.has_no_stream():
            self.say_goaway()
        else:
            self.drain()

    cdef bint has_no_stream(self) noexcept:
        return PySet_GET_SIZE(self.streams) == 0 and not self.head_since_ms

    cdef void say_goaway(self) noexcept:
        if not self.said_goaway:
            self.said_goaway = True
            self.session.goaway(H2_NO_ERROR)
            self.reactor.make_late(self)

    cdef void begin_close(self) noexcept:
        if self.is_closed or self.state != H2_OPEN:
            return
        self.state = H2_FLUSHING
        self.session.drop_section()
        timer_clear(&self.timer)
        if self.is_broken:
            self.close()
        elif self.out.size == 0:
            self.linger()

    cdef void linger(self) noexcept:
        """Give a client that is still sending time to read what was said; closing now would take it back."""
        self.state = H2_LINGERING
        if self.saw_eof:
            self.close()
            return
        self.transport.shutdown()
        self.arm(LINGER_MS)

    cdef void on_end(self, int code) noexcept:
        self.fail(CLIENT_GONE)

    cdef void on_broken(self) noexcept:
        self.fail(NO_MEMORY if self.lacks_memory else CLIENT_GONE)

    cdef void on_hangup(self, bint is_reset) noexcept:
        if is_reset:
            self.fail(CLIENT_GONE)

    cdef void fail(self, int kind) noexcept:
        self.fail_streams(kind)
        self.close()

    cdef void close(self) noexcept:
        if self.is_closed:
            return
        ServerConnection.close(self)
        self.session.drop_section()
        try:       # they know us: without this the collector of cycles would have to find us
            for streams in (self.streams, self.ending, self.relieved, self.line):
                streams.clear()
        except:
            pass   # ignored: clearing allocates nothing

    cdef void fail_streams(self, int kind) noexcept:
        """Let go of all; their owners hear of it a few in each turn."""
        cdef H2ServerStream stream
        if PySet_GET_SIZE(self.streams):
            self.note_local()
        try:
            for stream in list(self.streams):
                self.session.detach(&stream.h2)
                self.forget(stream)
                if stream.owner is not None:
                    self.list_lost(stream, kind)
        except:
            pass   # ignored: without memory their limits end them
        if self.application.is_closed:
            self.tell_lost()       # there will be no further turn

    # -- limits

    cdef void go_idle(self) noexcept:
        self.idle_since_ms = self.reactor.now_ms
        if not self.is_sweeping:
            self.arm(self.application.limits.keep_alive_ms)

    cdef void sweep(self) noexcept:
        """Look at the streams from time to time, while there are any."""
        self.is_sweeping = True
        self.swept_at_ms = self.reactor.now_ms
        self.arm(sweep_ms(&self.application.limits))

    cdef void on_timeout(self) noexcept:
        cdef uint64_t now_ms = self.reactor.now_ms
        cdef uint64_t idle_ms
        cdef H2ServerStream stream
        if self.state == H2_LINGERING and not self.is_ending and self.still_takes(LINGER_MS):
            self.arm(LINGER_MS)
            return
        if self.state != H2_OPEN:
            self.close()
            return
        self.is_sweeping = False
        if self.head_since_ms and now_ms - self.head_since_ms >= self.application.limits.head_ms:
            self.is_ending = True
            self.reactor.counted[<int>REFUSALS + <int>REFUSED_SLOW_HEAD] += 1
            self.application.on_refused(self, REFUSED_SLOW_HEAD, 0)
            self.session.terminate(H2_ENHANCE_YOUR_CALM)
            self.reactor.make_late(self)
            return
        if self.drain_at_ms and now_ms - self.drain_at_ms >= DRAIN_MS:
            self.say_goaway()
        try:
            for stream in list(self.streams):
                if not stream.is_gone:
                    self.look_at(stream)
        except:
            pass   # ignored: without memory they are looked at the next time
        if self.is_closed:
            return
        if not self.has_no_stream() or self.drain_at_ms and not self.said_goaway:
            self.sweep()
            return
        idle_ms = now_ms - self.idle_since_ms
        self.session.rest()
        if idle_ms < self.application.limits.keep_alive_ms:
            self.arm(<uint32_t>(self.application.limits.keep_alive_ms - idle_ms))
        elif self.is_blocked:
            self.arm(self.application.limits.keep_alive_ms)     # it still takes what waits
        else:
            self.reactor.counted[<int>CLOSED_IDLE] += 1
            self.say_goaway()

    cdef void look_at(self, H2ServerStream stream) noexcept:
        cdef StreamOwner owner
        cdef int kind = overdue(stream, &self.application.limits, self.swept_at_ms, self.reactor.now_ms,
                                self.is_blocked)
        if kind == OK:
            return
        if kind == CLIENT_TIMEOUT and stream.awaits_continue:
            stream.awaits_continue = False
            pace_asked(&stream.pace, self.reactor.now_ms)
            stream.send_continue()       # the upstream takes long to say it, and the client may wait for that
            return
        if stream.owner is not None:
            owner = stream.owner
            if failure_status(kind) == 0 and kind != TUNNEL_TIMEOUT:
                self.drop(stream, H2_CANCEL)      # hooks may be at work still, for which it has nothing to wait
            owner.on_failure(True, kind)
        else:
            self.reactor.counted[<int>CLOSED_READS_SLOWLY if kind == CLIENT_READS_SLOWLY else <int>CLOSED_STALLED] += 1
            self.drop(stream, H2_CANCEL)
