"""The relay pump. Owns the kept request body and the body filters of a session; decides nothing about phases."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from pingora_c.h1.framing cimport ASKS_TUNNEL
from pingora_c.proxy.failure cimport BODY_TOO_LARGE, NO_MEMORY, OK, UPSTREAM_BAD_HEAD, make_error
from pingora_c.stats.counters cimport REPLAYS_GIVEN_UP

from pingora_c.proxy.failure import SessionEnded


cdef int refuse_waiting(object future, object error) except -1:
    if future is not None and not future.done():
        future.set_exception(error)
        future.exception()     # it may be that nobody looks at it
    return 0


cdef class Relay(StreamOwner):
    cdef void on_body(self, bint is_client, const char* data, size_t size) noexcept:
        if not is_client:
            if self.response_bodies is not None:
                self.response_bodies.feed(data, size)
            elif self.websocket is not None:
                self.websocket.take(False, data, size)
            else:
                self.to_client(data, size)
            return
        self.received_bytes += size
        if self.websocket is not None:
            self.websocket.take(True, data, size)
            return
        cdef bint is_answered = self.response_sent and self.up is None
        if self.received_bytes > self.body_limit and not self.down.is_tunnel:
            self.body_failure = BODY_TOO_LARGE
            if self.replay is not None:
                self.replay.drop()
            if not is_answered:
                self.fail(BODY_TOO_LARGE)
            elif self.reader is not None:
                self.finish_reading(BODY_TOO_LARGE)
            return
        if is_answered and self.reader is None and not self.down.is_tunnel:
            if self.replay is None:
                pass
            elif self.may_be_read:
                self.replay.append(data, size)
            else:
                self.replay.drop()
            return
        if self.replay is not None and not self.replay.has_overflowed and self.replay.append(data, size) < 0:
            if self.reader is not None:
                self.finish_reading(NO_MEMORY if self.replay.lacks_memory else BODY_TOO_LARGE)
            elif not self.replay.lacks_memory:
                self.plan.reactor.counted[<int>REPLAYS_GIVEN_UP] += 1
        if self.reader is None and self.up is not None:
            self.forward(data, size)

    cdef void on_body_end(self, bint is_client, Trailers trailers) noexcept:
        if self.websocket is not None and self.websocket.holds_end(is_client):
            return      # on_filtered_end comes when its messages have gone on
        if is_client:
            self.request_trailers = trailers
            if self.reader is not None:
                self.finish_reading(self.body_failure)
            elif self.up is not None:
                self.forward_end(trailers)
            if self.down.is_tunnel and self.upstream_ended and (self.up is None or not self.up.unsent()):
                self.finish()       # else when the origin has taken what waits: on_writable
        elif not self.response_sent:
            self.upstream_ended = True      # a response filter is still at work; send_response ends it
        elif self.response_bodies is not None:
            self.response_bodies.feed_end(trailers)
        else:
            self.end_client(trailers)

    cdef void on_writable(self, bint is_client) noexcept:
        cdef object drained = self.drained
        if not is_client:
            if self.down.is_tunnel and self.down.body_done and self.upstream_ended:
                self.finish()
            elif self.websocket is not None and not self.websocket.go_on(True):
                pass
            elif self.request_sent and (self.request_bodies is None or self.request_bodies.task is None):
                self.down.resume_body()
            return
        if drained is not None:
            self.drained = None
            try:
                if not drained.done():
                    drained.set_result(None)
            except:
                pass   # ignored: the loop is closing
        if self.websocket is not None and not self.websocket.go_on(False):
            return
        if self.up is not None and (self.response_sent or not self.up.head_done) and (
                self.response_bodies is None or self.response_bodies.task is None):
            self.up.resume_body()

    cdef size_t room(self) noexcept:
        return self.down.room()

    cdef Allowance allowance(self):
        return self.down.allowance()

    # -- the request's body

    cdef void keep_body(self) noexcept:
        try:
            self.replay = Replay.new(self.plan.retry.replay_bytes)
        except:
            pass   # ignored: without memory for it there is no retry

    cdef void send_kept_body(self) noexcept:
        cdef Stream up = self.up
        if self.replay is not None and self.replay.size:
            self.forward(self.replay.bytes_at(), self.replay.size)
            if self.plan.reactor.n_gather:
                self.plan.reactor.flush_dirty()      # it may point into what grows as more comes
        if self.up is None or self.up is not up:
            return               # it was lost, or another attempt has begun
        if self.down.body_done:
            self.forward_end(self.request_trailers)
        elif self.request_bodies is None or self.request_bodies.task is None:
            self.down.resume_body()

    cdef void forward(self, const char* data, size_t size) noexcept:
        if self.request_bodies is not None and not self.down.is_tunnel:
            self.request_bodies.feed(data, size)
        else:
            self.to_upstream(data, size)

    cdef void forward_end(self, Trailers trailers) noexcept:
        if self.request_bodies is not None and not self.down.is_tunnel:
            self.request_bodies.feed_end(trailers)
        else:
            self.end_upstream(trailers)

    cdef void to_upstream(self, const char* data, size_t size) noexcept:
        cdef Stream up = self.up
        if up is None:
            return
        if up.send_body(data, size) < 0:
            self.fail(NO_MEMORY)
        elif self.up is up and up.is_full():     # else it was lost, or another attempt has begun
            self.down.pause_body()

    cdef void end_upstream(self, Trailers trailers) noexcept:
        if self.up is not None and self.up.send_end(trailers) < 0:
            self.fail(NO_MEMORY)

    cdef bint can_replay(self) noexcept:
        return self.received_bytes == 0 or (self.replay is not None and not self.replay.has_overflowed)

    cdef bint has_too_much(self) noexcept:
        return self.received_bytes > self.body_limit or self.down.framing.length > self.body_limit

    cdef void finish_reading(self, int kind) noexcept:
        cdef object reader = self.reader
        self.reader = None
        self.down.pause_body()
        self.on_body_read()
        try:
            if reader.done():
                pass
            elif kind != OK:
                reader.set_exception(make_error(kind, None, self.down.trouble))
            else:
                reader.set_result(self.replay.complete())
        except:
            pass   # ignored: without memory the future stays open, and the limit of the hook ends it

    # -- the answer's body

    cdef void to_client(self, const char* data, size_t size) noexcept:
        if self.answers_bare:
            return
        self.sent_bytes += size
        if self.down.send_body(data, size) < 0:
            self.fail(NO_MEMORY)
        elif self.down.is_full():
            if self.up is not None:
                self.up.pause_body()

    cdef void keep_to_client(self, bytes chunk) noexcept:
        if self.answers_bare:
            return
        self.sent_bytes += PyBytes_GET_SIZE(chunk)
        self.plan.reactor.bury(chunk)      # what is written stays until the end of the turn
        if self.down.send_kept(chunk) < 0:
            self.fail(NO_MEMORY)
        elif self.down.is_full() and self.up is not None:
            self.up.pause_body()

    cdef void end_client(self, Trailers trailers) noexcept:
        self.upstream_ended = True
        if self.down.send_end(trailers) < 0:
            self.fail(NO_MEMORY)
        elif not self.down.is_tunnel or self.down.body_done and (self.up is None or not self.up.unsent()):
            self.finish()       # else when the origin has taken what waits: on_writable

    # -- from body filters and from the filters of messages

    cdef void on_filtered(self, bint is_request, bytes chunk) noexcept:
        if is_request:
            self.plan.reactor.bury(chunk)      # what is written stays until the end of the turn
            self.to_upstream(PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk))
        else:
            self.keep_to_client(chunk)

    cdef void on_filtered_end(self, bint is_request, Trailers trailers) noexcept:
        if self.websocket is not None:
            self.on_body_end(is_request, trailers)
        elif is_request:
            self.end_upstream(trailers)
            self.down.resume_body()        # what follows an early end is read and dropped
        else:
            self.end_client(trailers)

    cdef void on_filter_idle(self, bint is_request) noexcept:
        if self.up is None:
            return
        if is_request:
            if not self.up.is_full():
                self.down.resume_body()
        elif not self.down.is_full():
            self.up.resume_body()

    cdef void drop_filters(self, bint is_request) noexcept:
        cdef BodyFilter dropped = self.request_bodies if is_request else self.response_bodies
        if dropped is None:
            return
        dropped.close()
        self.plan.reactor.bury(dropped)    # it may be what calls
        if is_request:
            self.request_bodies = None
        else:
            self.response_bodies = None

    # -- from a WebSocket

    cdef bint open_websocket(self, RequestHead request, ResponseHead response) except -1:
        if self.down.framing.upgrade == ASKS_TUNNEL:
            return True      # whatever its fields say
        try:
            self.websocket = WebSocket.open(self, self.plan, self.hooks, self.down, self.up, request, response)
        except ValueError as error:
            self.up.trouble = str(error)
            self.on_failure(False, UPSTREAM_BAD_HEAD)
            return False
        return True

    cdef void on_passed(self, bint is_request, const char* data, size_t size) noexcept:
        if is_request:
            self.to_upstream(data, size)
        else:
            self.to_client(data, size)

    cdef void on_left(self) noexcept:
        if self.websocket.is_over() and self.up is not None and self.up.unsent():
            self.websocket.stay()          # the origin is slow: what came before the client's Close frame still waits
            return
        self.upstream_ended = True         # an end, not a cut
        self.finish()

    cdef void drop_websocket(self) noexcept:
        cdef WebSocket websocket = self.websocket
        if websocket is not None:
            self.websocket = None
            websocket.end()
            self.plan.reactor.bury(websocket)      # it may be what calls

    cdef void end_waiting(self) noexcept:
        """Whoever else waits for this session, in a task of his own, waits no more."""
        cdef object drained = self.drained
        self.drained = None
        if self.reader is None and drained is None:
            return
        try:
            self.end_reading(SessionEnded("the session has ended"))
            refuse_waiting(drained, SessionEnded("the session has ended"))
        except:
            pass   # ignored: the loop is closing

    cdef int end_reading(self, object error) except -1:
        cdef object reader = self.reader
        self.reader = None
        return refuse_waiting(reader, error)

    # -- overridden

    cdef void fail(self, int kind) noexcept:
        pass

    cdef void finish(self) noexcept:
        pass

    cdef void on_body_read(self) noexcept:
        pass
