"""Streams of HTTP/2 server connections. Own what waits of a request's body; the session has what waits of answers."""
cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.stddef cimport size_t
from pingora_c.h1.framing cimport ASKS_TUNNEL, BODY_TUNNEL
from pingora_c.h2.answer cimport submit_answer, submit_interim_answer
from pingora_c.h2.session cimport H2_CANCEL, H2_CONNECT_ERROR, H2_INTERNAL_ERROR, H2Session
from pingora_c.http.header_block cimport HeaderBlock
from pingora_c.http.message cimport ResponseHead
from pingora_c.mem.byte_queue cimport queue_drop, queue_free, queue_front
from pingora_c.proxy.failure cimport CLIENT_GONE
from pingora_c.proxy.pace cimport pace_asked, pace_came
from pingora_c.proxy.stream cimport HIGH_WATER, Allowance
from pingora_c.stats.counters cimport ANSWERS

cdef enum:
    LITTLE = 4096
    KEPT_LEAST = 4096
    TOLD_PER_TURN = 8          # each may close a connection to an origin, which takes as long as a request
    READ_MOST = 61440          # at once, for one stream; fits into one buffer
    # memory that waits on all streams of a connection:
    BODIES_MOST = 262144       # beyond it no more of a body is read that cannot leave at once
    HEADS_MOST = 786432        # nor, beyond this, LITTLE for an answer's head
    FULL = 1048576             # who is not asked before he reads is full with more than LITTLE


cdef class H2Carrier(ServerConnection):
    cdef void drop(self, H2ServerStream stream, uint32_t code) noexcept:
        pass

    cdef void frame(self) noexcept:
        pass

    cdef void serve_line(self) noexcept:
        cdef H2ServerStream stream
        cdef list left
        cdef size_t held = self.session.held_bytes
        cdef size_t bodies = BODIES_MOST - held if held < BODIES_MOST else 0
        cdef size_t leaving = ROOM - self.out.size if self.session.has_room() and self.out.size < ROOM else 0
        cdef bint is_served = False
        if not self.line_moved:
            return
        self.line_moved = False
        try:
            left = []
            for stream in self.line:
                if stream.owner is None:
                    continue
                if bodies or leaving and stream.can_leave():
                    leaving -= min(leaving, <size_t>READ_MOST)
                    bodies -= min(bodies, <size_t>READ_MOST)
                    stream.has_turn = is_served = True
                    stream.is_in_line = False
                    self.relieved.append(stream)
                else:
                    left.append(stream)
            self.line = left
        except:
            pass   # ignored: without memory it is tried again when something has left
        if is_served and PyList_GET_SIZE(self.line):
            self.line_moved = True       # those who were served may find nothing to read
            self.reactor.make_ready(self)

    cdef void relieve(self) noexcept:
        cdef H2ServerStream stream
        cdef list relieved = self.relieved
        try:
            self.relieved = []
            for stream in relieved:
                if stream.owner is not None:
                    stream.owner.on_writable(True)
        except:
            pass   # ignored: without memory it is tried again when more was framed

    cdef void list_lost(self, H2ServerStream stream, int kind) noexcept:
        stream.lost_to = <uint8_t>kind
        try:
            self.lost.append(stream)
        except:
            pass   # ignored: without memory the session goes on to its end
        self.reactor.make_ready(self)

    cdef void tell_lost(self) noexcept:
        cdef H2ServerStream stream
        cdef int n_told = 0
        while PyList_GET_SIZE(self.lost) and (n_told < TOLD_PER_TURN or self.application.is_closed):
            try:
                stream = self.lost.pop()
            except:
                return     # ignored: taking the last one allocates nothing
            if stream.owner is not None:
                stream.owner.on_failure(True, stream.lost_to)
                n_told += 1
        if PyList_GET_SIZE(self.lost):
            self.reactor.make_ready(self)


@cython.final
cdef class H2ServerStream(Stream):
    def __dealloc__(self):
        queue_free(&self.waiting)
        queue_free(&self.h2.out)

    cdef int send_head(self, ResponseHead head, int64_t length, bint is_upgrade) noexcept:
        cdef bint has_body = True
        self.head_sent = True
        if self.is_gone or self.server.is_closed:
            return 0
        self.server.reactor.make_late(self.server)
        if self.is_connect and not is_upgrade and head.status_code < 300:
            self.server.drop(self, H2_CONNECT_ERROR)     # 2xx would open the tunnel that the origin did not
            self.server.list_lost(self, CLIENT_GONE)
            return 0
        self.server.reactor.counted[<int>ANSWERS + head.status_code // 100] += 1
        if is_upgrade:
            self.is_tunnel = True
            self.framing.kind = BODY_TUNNEL
            self.body_done = False
            self.end_waits |= self.has_ended
            self.pace.active_ms = self.server.reactor.now_ms
            self.list_resumed()
            length = -1
        elif head.status_code == 204:
            length = -1
            has_body = False
        elif head.status_code == 205:
            length = 0           # it has no content (RFC 9110 §15.3.6)
            has_body = False
        elif self.to_head or head.status_code == 304 or length == 0:
            has_body = False
        else:
            self.out_left = length
        return submit_answer(self.server.session, &self.h2, head, length, has_body, is_upgrade)

    cdef int send_interim(self, ResponseHead head) noexcept:
        if self.is_gone or self.head_sent or self.server.is_closed or head.status_code == 100 and self.was_told:
            return 0
        if head.status_code == 100:
            self.awaits_continue = False
        self.server.reactor.counted[<int>ANSWERS + 1] += 1
        self.server.reactor.make_late(self.server)
        return submit_interim_answer(self.server.session, &self.h2, head)

    cdef int send_continue(self) noexcept:
        cdef ResponseHead head = None
        try:
            head = ResponseHead.new(100)
        except:
            pass   # ignored: told below
        if head is None or self.send_interim(head) < 0:
            return -1
        self.was_told = True
        return 0

    cdef size_t begin_part(self, size_t size) noexcept:
        if self.is_gone or size == 0 or self.server.is_closed:
            return 0
        if self.out_left >= 0:
            size = min(size, <size_t>self.out_left)
            self.out_left -= <int64_t>size
        self.server.reactor.make_late(self.server)
        return size

    cdef int send_body(self, const char* data, size_t size) noexcept:
        size = self.begin_part(size)
        return self.server.session.send_data(&self.h2, data, size) if size else 0

    cdef int send_kept(self, bytes body) noexcept:
        cdef size_t size = PyBytes_GET_SIZE(body)
        if size < KEPT_LEAST:
            return self.send_body(PyBytes_AS_STRING(body), size)
        size = self.begin_part(size)
        return self.server.session.send_kept(&self.h2, body, size) if size else 0

    cdef int send_end(self, Trailers trailers) noexcept:
        cdef const HeaderBlock* block
        self.is_ended_here = True
        if self.is_gone or self.out_left > 0 or self.server.is_closed:
            return 0               # one that is too short is reset when it is released
        self.server.reactor.make_late(self.server)
        self.out_trailers = trailers
        block = NULL if trailers is None else &trailers.block
        self.server.session.send_end(&self.h2, block)
        return 0

    cdef bint is_full(self) noexcept:
        cdef size_t size = self.h2.out.size
        if size <= HIGH_WATER and (self.is_asked or size <= LITTLE or self.server.session.held_bytes <= FULL):
            return False
        self.was_full = True
        return True

    cdef size_t room(self) noexcept:
        cdef H2Session session = self.server.session
        cdef bint has_turn = self.has_turn
        self.is_asked = True
        self.has_turn = False
        if self.is_gone or self.server.is_closed:
            return READ_MOST
        if session.held_bytes < BODIES_MOST and (has_turn or PyList_GET_SIZE(self.server.line) == 0):
            return READ_MOST
        if session.held_bytes < HEADS_MOST and not self.head_sent:
            return LITTLE
        if self.can_leave():
            return min(session.window_of(&self.h2), <size_t>READ_MOST)
        return self.stand_in_line(has_turn)

    cdef Allowance allowance(self):
        return self.server.promises

    cdef bint can_leave(self) noexcept:
        cdef H2Session session = self.server.session
        return self.h2.out.size == 0 and session.has_room() and session.window_of(&self.h2) > 0

    cdef size_t stand_in_line(self, bint is_first) noexcept:
        if not self.is_in_line:
            try:
                self.server.line.insert(0 if is_first else len(self.server.line), self)
                self.is_in_line = True
            except:
                pass   # ignored: without memory for it it is read on as if there was room
        return 0 if self.is_in_line else LITTLE

    cdef size_t unsent(self) noexcept:
        return self.h2.out.size

    cdef void press(self) noexcept:
        if self.h2.out.size > HIGH_WATER and not self.is_gone and not self.server.session.in_call:
            self.server.frame()

    cdef void pause_body(self) noexcept:
        self.body_paused = True

    cdef void resume_body(self) noexcept:
        if self.body_paused:
            self.body_paused = False
            pace_asked(&self.pace, self.server.reactor.now_ms)
            self.list_resumed()

    cdef void list_resumed(self) noexcept:
        if self.is_listed or not (self.waiting.size or self.end_waits):
            return
        if self.server.is_closed and not self.is_heard_out:
            return
        try:
            self.server.resumed.append(self)
            self.is_listed = True
            self.server.reactor.make_ready(self.server)
        except:
            pass   # ignored: without memory its limit ends it

    cdef void deliver(self) noexcept:
        cdef H2Carrier server = self.server
        cdef const char* front
        cdef size_t size = 0
        server.delivering = self
        while self.waiting.size and self.owner is not None and not self.body_paused:
            front = queue_front(&self.waiting, &size)
            pace_came(&self.pace, size, server.reactor.now_ms)
            self.owner.on_body(True, front, size)
            server.flush_before_reuse()      # what was passed on may point there
            queue_drop(&self.waiting, size)
            server.session.consume(&self.h2, size)
            server.reactor.make_late(server)
        server.delivering = None
        if self.is_gone:
            self.drop_body()
        if self.end_waits and self.waiting.size == 0 and not self.body_paused and self.owner is not None:
            self.end_waits = False
            self.body_done = True
            self.owner.on_body_end(True, self.in_trailers)

    cdef void end_hearing(self) noexcept:
        try:
            self.server.application.heard_out.discard(self)
        except:
            pass   # ignored: discarding allocates nothing

    cdef void drop_body(self) noexcept:
        if not self.is_heard_out:
            queue_free(&self.waiting)
            self.end_waits = False

    cdef bint is_reusable(self, bint is_complete) noexcept:
        return is_complete and not self.server.drain_at_ms and not self.server.is_closed

    cdef uint32_t cut_code(self) noexcept:
        """What a client is told where nobody ended in order: RFC 9113 §8.5, RFC 8441 §5."""
        if not self.is_tunnel:
            return H2_INTERNAL_ERROR
        return H2_CONNECT_ERROR if self.framing.upgrade == ASKS_TUNNEL else H2_CANCEL

    cdef void release(self, bint is_complete) noexcept:
        self.owner = None
        self.server.n_sessions -= 1
        if self.is_heard_out:
            self.end_hearing()
        if self.is_gone or self.server.is_closed:
            return
        if not is_complete or self.out_left > 0 or not self.head_sent:
            if self.head_sent:
                self.server.session.pump()      # what came before the cut; RST_STREAM would overtake it
            self.server.drop(self, self.cut_code())
            return
        self.server.session.send_end(&self.h2, NULL)     # where it was not said
        if not self.has_ended:
            try:
                self.server.ending.append(self)
            except:
                pass   # ignored: without memory the client goes on until its window is used
        self.server.reactor.make_late(self.server)
