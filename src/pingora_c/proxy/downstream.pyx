"""HTTP/1.1 server connections. Owns the socket of a client; knows sessions only as StreamOwner."""
cimport cython

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp, memset
from pingora_c.base.ascii cimport is_token
from pingora_c.base.span cimport Span
from pingora_c.h1.encode cimport (
    FRAME_CHUNKED, FRAME_CLOSE, FRAME_LENGTH, FRAME_NONE, Outgoing, encode_response, response_room,
)
from pingora_c.h1.framing cimport ASKS_TUNNEL, BODY_LENGTH, BODY_NONE, BODY_TUNNEL, request_framing
from pingora_c.h1.head cimport H1_BAD_REQUEST_LINE, H1_INCOMPLETE, HeadLimits, RequestLine, parse_request_head
from pingora_c.h1.hop cimport remove_named
from pingora_c.h1.target cimport HTTPS_SIZE, check_host, check_target, settle_host
from pingora_c.h1.verdict cimport BAD_LENGTH, HEAD_OK, WRONG_SCHEME
from pingora_c.http.field cimport NAME_UPGRADE, Field
from pingora_c.http.header_block cimport block_find_known
from pingora_c.http.message cimport METHOD_CONNECT, METHOD_HEAD, ResponseHead
from pingora_c.net.connection cimport Connection
from pingora_c.net.timer cimport timer_clear
from pingora_c.net.transport cimport IO_EOF
from pingora_c.proxy.error_page cimport ErrorPages
from pingora_c.proxy.failure cimport (
    CLIENT_GONE, CLIENT_TIMEOUT, CLIENT_TOO_SLOW, CLIENT_TRUNCATED, NO_MEMORY, TUNNEL_TIMEOUT,
)
from pingora_c.proxy.refusal cimport (
    REFUSED_FRAMING, REFUSED_HEAD, REFUSED_NO_MEMORY, REFUSED_SLOW_HEAD, refusal_reason, refusal_status,
)
from pingora_c.proxy.response cimport Response
from pingora_c.proxy.server_connection cimport ServerConnection
from pingora_c.proxy.stream cimport HIGH_WATER
from pingora_c.stats.counters cimport (
    ANSWERS, CLOSED_HALF, CLOSED_HANDSHAKE, CLOSED_IDLE, CLOSED_LINGERING, CLOSED_REQUESTS, REFUSALS,
)

cdef const char* PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

cdef enum:
    PREFACE_SIZE = 24
    FIELDS_MAX = 256
    LINGER_MS = 2000           # without a byte
    LINGER_MOST_MS = 30000
    HEADS_PER_TURN = 32
    DRAIN_MOST = 65536         # of a body that nobody wants, to keep its connection


cdef bint begins_with_head(const char* data, size_t size) noexcept nogil:
    """Whether a request is one of HEAD; an empty line may stand before it (RFC 9112 §2.2)."""
    cdef size_t at = 0
    if size and data[0] == 13:
        at = 1
    if at < size and data[at] == 10:
        at += 1
    return size >= at + 5 and memcmp(data + at, b"HEAD ", 5) == 0


@cython.final
cdef class H1Server(ServerConnection):
    cdef void on_ready(self) noexcept:
        if self.is_resting:
            self.is_resting = False
            self.is_paused = False
        Connection.on_ready(self)
        self.look_for_end()

    cdef size_t on_bytes(self, const char* data, size_t size) noexcept:
        cdef size_t used = 0, part
        cdef int heads = 0
        while used < size and not self.is_closed:
            if self.stream is None:
                if self.state >= SERVER_FLUSHING:
                    self.keep_lingering()
                    return size
                if self.state == SERVER_DRAINING:
                    part = min(size - used, self.moved_before)
                    used += part
                    self.moved_before -= part
                    if self.moved_before == 0:
                        self.be_idle()
                    continue
                if self.is_blocked and self.unsent() > HIGH_WATER:
                    self.pause()       # it reads no answers: no more requests until it does
                    break
                heads += 1
                if heads > HEADS_PER_TURN:
                    self.is_resting = True     # hooks answered them at once; others have their turn first
                    self.pause()
                    self.reactor.make_ready(self)
                    break
                part = self.read_head(data + used, size - used)
                if self.stream is not None:
                    self.stream.window_read = self.bytes_read - (size - used - part)
            elif self.stream.body_done or self.stream.body_paused:
                break
            else:
                if not self.stream.is_tunnel:
                    self.arm(self.application.limits.body_ms)
                    self.stream.awaits_continue = False
                    if self.stream.is_too_slow():
                        self.fail(CLIENT_TOO_SLOW)
                        break
                part = self.stream.decode(data + used, size - used)
            if part == 0:
                break
            used += part
        if self.stream is not None and (self.stream.body_done or self.stream.body_paused):
            self.pause()
            if self.saw_hangup and self.application.aborts_half_close:
                self.reactor.make_ready(self)     # no further edge will tell of the end
        return used

    cdef size_t read_head(self, const char* data, size_t size) noexcept:
        """Parse a head; 0 while it is incomplete. A bad one is answered and ends the connection."""
        cdef Py_ssize_t used = -1
        if self.n_exchanges == 0 and data[0] == c"P" and self.application.limits.http2_streams:
            if self.is_preface(data, size):
                return size if self.is_closed else 0
        try:
            used = self.take_head(data, size)
        except:
            pass   # ignored: no memory, answered below
        if used < 0:
            self.refuse(REFUSED_NO_MEMORY)
            return size
        return used

    cdef bint is_preface(self, const char* data, size_t size) noexcept:
        """HTTP/2 without an announcement (RFC 9113 §3.3): `data` is its preface, or the beginning of that."""
        if memcmp(data, PREFACE, min(size, <size_t>PREFACE_SIZE)) != 0 or self.transport.is_secure:
            return False
        if size >= PREFACE_SIZE:
            self.application.on_http2(self, data, size)
        elif self.state == SERVER_IDLE:
            self.state = SERVER_HEAD
            self.head_at_us = self.reactor.now_us
            self.arm(self.application.limits.head_ms)
        return True

    cdef bint is_foreign(self, const char* data, size_t size) noexcept:
        """No attempt at HTTP/1, but perhaps one at HTTP/2, which could not read an answer (RFC 9113 §3.4): the first
        line has neither a path nor a version.
        """
        cdef const char* end = <const char*>memchr(data, c"\n", size)
        if self.n_exchanges or self.application.limits.http2_streams == 0 or self.transport.is_secure:
            return False
        if end != NULL:
            size = end - data
        return is_token(data, 1) and memchr(data, c"/", size) == NULL

    cdef void on_open(self) noexcept:
        ServerConnection.on_open(self)
        if self.transport.needs_handshake and self.transport.has_chosen(b"h2", 2):
            self.application.on_http2(self, NULL, 0)

    cdef Py_ssize_t take_head(self, const char* data, size_t size) except -1:
        cdef Field fields[FIELDS_MAX]
        cdef HeadLimits limits
        cdef RequestLine line
        cdef uint32_t n = 0
        cdef Py_ssize_t end
        cdef int verdict, refusal
        cdef RequestHead head
        cdef Span authority
        cdef H1ServerStream stream
        self.asks_head = begins_with_head(data, size)
        if self.state == SERVER_IDLE:
            self.state = SERVER_HEAD
            self.head_at_us = self.reactor.now_us
            self.arm(self.application.limits.head_ms)
        limits.head_bytes = self.application.limits.head_bytes
        limits.target_bytes = self.application.limits.target_bytes
        limits.fields = self.application.limits.fields
        end = parse_request_head(data, size, self.head_seen, &limits, &line, fields, &n)
        if end == H1_INCOMPLETE:
            self.head_seen = size
            return 0
        self.head_seen = 0
        if end < 0:
            if end == H1_BAD_REQUEST_LINE and self.is_foreign(data, size):
                self.end_refused(REFUSED_HEAD - <int>end, 0)
            else:
                self.refuse(REFUSED_HEAD - <int>end)
            return size
        stream = H1ServerStream.__new__(H1ServerStream)
        verdict = request_framing(data, fields, n, line.minor, &stream.framing)
        if verdict == HEAD_OK:
            verdict = check_host(data, fields, n, line.minor)
        if verdict == HEAD_OK:
            verdict = check_target(data + line.method.at, line.method.size, data + line.target.at, line.target.size,
                                   &authority)
        if verdict == HEAD_OK and authority.size and authority.at == HTTPS_SIZE and not (
                self.is_trusted or self.transport.is_secure):
            verdict = WRONG_SCHEME
        if verdict != HEAD_OK:
            self.refuse(REFUSED_FRAMING - verdict)
            return size
        head = RequestHead.new()
        if head.load(data, <uint32_t>end, line.method, line.target, line.minor, fields, n) < 0 or (
                settle_host(head, authority) < 0):
            self.refuse(REFUSED_NO_MEMORY)
            return size
        if stream.framing.names_fields:
            remove_named(&head.block, &head.block)
        refusal = self.objection(head)
        if refusal == 0 and head.method_id == METHOD_CONNECT:
            if stream.framing.kind != BODY_NONE:
                refusal = REFUSED_FRAMING - <int>BAD_LENGTH     # it has no content (RFC 9110 §9.3.6)
            stream.framing.upgrade = ASKS_TUNNEL
        if refusal:
            self.refuse(refusal)
            return size
        self.begin(stream, head)
        return end

    cdef void begin(self, H1ServerStream stream, RequestHead head) noexcept:
        self.state = SERVER_EXCHANGE
        self.n_exchanges += 1
        stream.connection = self
        stream.server = self
        stream.is_client = True
        stream.client_minor = head.minor
        stream.to_head = head.method_id == METHOD_HEAD
        stream.close_after = not stream.framing.keep_alive
        if self.n_exchanges >= self.application.limits.requests:
            self.reactor.counted[<int>CLOSED_REQUESTS] += not stream.close_after
            stream.close_after = True
        stream.begin_body(head, &head.block, self.application.limits.chunk_extension_bytes)
        stream.window_at_ms = self.reactor.now_ms
        stream.awaits_continue = stream.framing.expects
        self.stream = stream
        self.timer.deadline_ms = 0
        if self.application.begin(self, stream, head) < 0:
            self.stream = None
            self.refuse(REFUSED_NO_MEMORY)

    cdef void refuse(self, int refusal) noexcept:
        """Answer a message that no session saw, then end the connection (security rule 9)."""
        cdef size_t size = 0
        try:
            size = self.write_refusal(refusal)
        except:
            pass   # ignored: without memory for an answer the connection ends without one
        self.reactor.counted[<int>ANSWERS + refusal_status(refusal) // 100] += 1
        self.end_refused(refusal, size)

    cdef void end_refused(self, int refusal, size_t size) noexcept:
        self.reactor.counted[<int>REFUSALS + refusal] += 1
        self.application.on_refused(self, refusal, size)
        self.begin_close()

    cdef size_t write_refusal(self, int refusal) except? 1:
        cdef ErrorPages pages = self.application.pages
        cdef const char* reason = refusal_reason(refusal)
        cdef Response page = pages.with_reason(pages.page(refusal_status(refusal), reason), reason)
        cdef bytes body = page.body
        cdef Outgoing how
        cdef char* out = self.reserve(response_room(page.head))
        if out == NULL:
            raise MemoryError
        memset(&how, 0, sizeof(how))
        how.framing = FRAME_LENGTH
        how.length = PyBytes_GET_SIZE(body)
        how.close = True
        self.commit(encode_response(page.head, &how, out))
        if self.asks_head:
            return 0
        self.write_kept(body, how.length)
        return how.length

    cdef void end_exchange(self, bint reusable) noexcept:
        cdef H1ServerStream stream = self.stream
        self.stream = None
        self.is_sending = not stream.body_done or stream.framing.upgrade
        self.reactor.bury(stream)
        if self.is_closed:
            return
        if not reusable or self.is_broken or self.saw_eof:
            self.begin_close()
            if self.is_sending and self.state == SERVER_FLUSHING:
                self.resume()      # a client that reads only when all was sent would wait for us, and we for it
            return
        if stream.body_done:
            self.be_idle()
        else:
            self.drain_body(stream.body_left)
        self.resume()

    cdef void be_idle(self) noexcept:
        self.state = SERVER_IDLE
        self.arm(self.application.limits.keep_alive_ms)

    cdef void drain_body(self, uint64_t size) noexcept:
        self.state = SERVER_DRAINING
        self.moved_before = size
        self.arm(self.application.limits.body_ms)     # for all of it

    cdef void begin_close(self) noexcept:
        if self.is_closed:
            return
        self.state = SERVER_FLUSHING
        self.is_ending = True
        self.flush()
        if self.is_broken:
            self.close()
        elif self.out.size:
            timer_clear(&self.timer)   # the write timer watches
        else:
            self.linger()

    cdef void linger(self) noexcept:
        """Nothing more to send. A client that may still be sending gets time to read the answer before the socket
        closes.
        """
        if (self.saw_eof and not self.lacks_memory) or (
                not self.is_sending and not self.can_read and not self.pending_size and self.is_paused):
            self.close()
            return
        self.state = SERVER_LINGERING
        self.linger_end_ms = self.reactor.now_ms + min(<uint32_t>LINGER_MOST_MS, self.application.limits.body_ms)
        self.transport.shutdown()
        self.keep_lingering()
        self.resume()

    cdef void keep_lingering(self) noexcept:
        """A client that goes on sending has not seen the answer yet; closing now would take it back with a reset."""
        cdef uint64_t at_ms = self.reactor.now_ms
        if self.state == SERVER_LINGERING and at_ms < self.linger_end_ms:
            self.arm(<uint32_t>min(<uint64_t>LINGER_MS, self.linger_end_ms - at_ms))

    cdef void watch_tunnel(self) noexcept:
        """Cut a tunnel in which nothing moves for tunnel_ms, seen four times in that time."""
        cdef uint64_t moved = self.bytes_read + self.bytes_written
        if moved != self.moved_before:
            self.moved_before = moved
            self.quiet_quarters = 0
        elif self.quiet_quarters == 4:
            self.fail(TUNNEL_TIMEOUT)
            return
        self.quiet_quarters += 1
        self.arm(self.application.limits.tunnel_ms // 4 + 1)

    cdef void on_writable(self) noexcept:
        self.note_drained()
        if self.state == SERVER_FLUSHING:
            self.linger()
        elif self.stream is None:
            self.resume()
        elif self.stream.owner is not None:
            self.stream.owner.on_writable(True)

    cdef void on_end(self, int code) noexcept:
        if self.stream is None:
            if code == IO_EOF and self.unsent():
                if self.state != SERVER_FLUSHING:
                    self.begin_close()     # answers are still on their way
                return
            self.close()
        elif self.stream.is_tunnel and code == IO_EOF:
            self.stream.end_body(None)
        elif code != IO_EOF:
            self.fail(CLIENT_GONE)
        elif self.application.aborts_half_close and self.lacks() == 0:
            self.reactor.counted[<int>CLOSED_HALF] += 1
            self.fail(CLIENT_GONE)
        elif not self.stream.body_done:
            self.fail(CLIENT_TRUNCATED)

    cdef void on_hangup(self, bint is_reset) noexcept:
        cdef bint is_cut = self.stream is None or not self.stream.is_tunnel or self.saw_reset and self.saw_eof
        if is_reset and (is_cut or self.was_cut()):
            self.fail(CLIENT_GONE)
        else:
            self.look_for_end()

    cdef void look_for_end(self) noexcept:
        if self.application.aborts_half_close:
            while self.stream is not None and not self.stream.is_tunnel and self.lacks() >= 0 and self.look_ahead():
                pass

    cdef int64_t lacks(self) noexcept:
        if not self.stream.body_done and self.stream.framing.kind != BODY_LENGTH:
            return -1
        return (0 if self.stream.body_done else <int64_t>self.stream.body_left) - <int64_t>self.pending_size

    cdef void on_broken(self) noexcept:
        if self.lacks_memory and self.stream is not None:
            self.stream.close_after = True     # where the next request begins may be lost
        self.fail(NO_MEMORY if self.lacks_memory else CLIENT_GONE)

    cdef void fail(self, int kind) noexcept:
        if self.stream is not None and self.stream.owner is not None:
            self.stream.owner.on_failure(True, kind)
        else:
            self.close()

    cdef bint is_idle(self) noexcept:
        return self.stream is None

    cdef void close_if_idle(self) noexcept:
        if self.stream is None and self.state < SERVER_FLUSHING and self.state != SERVER_HEAD and not self.pending_size:
            if self.unsent() or self.state == SERVER_DRAINING:
                self.begin_close()     # a client that still sends has time to read its answer
            else:
                self.close()

    cdef void on_timeout(self) noexcept:
        if self.state == SERVER_HEAD:
            self.refuse(REFUSED_SLOW_HEAD)
        elif self.state == SERVER_EXCHANGE:
            if self.stream.is_tunnel:
                self.watch_tunnel()
            elif self.stream.body_done or self.stream.body_paused:
                pass
            elif self.stream.awaits_continue:
                self.stream.send_continue()      # the upstream takes long to say it, and the client may wait for that
                self.stream.window_at_ms = self.reactor.now_ms
                self.arm(self.application.limits.body_ms)
            else:
                self.fail(CLIENT_TIMEOUT)
        elif self.is_blocked:
            self.arm(self.application.limits.keep_alive_ms)   # it still takes answers
        else:
            if self.is_opening:
                self.reactor.counted[<int>CLOSED_HANDSHAKE] += 1
            elif self.state == SERVER_IDLE:
                self.reactor.counted[<int>CLOSED_IDLE] += 1
            elif self.state == SERVER_LINGERING and self.reactor.now_ms >= self.linger_end_ms:
                self.reactor.counted[<int>CLOSED_LINGERING] += 1
            self.close()


@cython.final
cdef class H1ServerStream(H1Stream):
    cdef int send_head(self, ResponseHead head, int64_t length, bint is_upgrade) noexcept:
        cdef Outgoing how
        cdef char* out
        memset(&how, 0, sizeof(how))
        # 426 tells what to upgrade to (RFC 9110 §15.5.22)
        how.is_upgrade = is_upgrade and head.status_code == 101 or (
            head.status_code == 426 and block_find_known(&head.block, NAME_UPGRADE, 0) >= 0)
        if self.framing.upgrade and not is_upgrade or head.status_code >= 300 and not self.can_drain():
            self.close_after = True    # what comes next may be neither a request nor wanted
        if is_upgrade:
            how.framing = FRAME_NONE
            self.out_framing = FRAME_CLOSE
            self.is_tunnel = True
            self.close_after = True
            self.framing.kind = BODY_TUNNEL
            self.body_done = False
            self.server.resume()
            self.server.watch_tunnel()
        elif head.status_code == 204:
            how.framing = self.out_framing = FRAME_NONE
        elif head.status_code == 205:
            how.framing = FRAME_LENGTH        # of 0: it has no content (RFC 9110 §15.3.6)
            self.out_framing = FRAME_NONE
        elif self.to_head or head.status_code == 304:
            how.framing = FRAME_LENGTH if length >= 0 else FRAME_NONE
            how.length = length if length >= 0 else 0
            self.out_framing = FRAME_NONE
        elif length >= 0:
            how.framing = self.out_framing = FRAME_LENGTH
            how.length = self.out_left = length
        elif self.client_minor == 0:
            how.framing = FRAME_NONE
            self.out_framing = FRAME_CLOSE
            self.close_after = True
        else:
            how.framing = self.out_framing = FRAME_CHUNKED
        how.close = self.close_after and not is_upgrade
        how.keep_alive = self.client_minor == 0 and not is_upgrade
        out = self.head_place(response_room(head))
        if out == NULL:
            return -1
        self.head_sent = True
        self.server.reactor.counted[<int>ANSWERS + head.status_code // 100] += 1
        return self.head_written(encode_response(head, &how, out))

    cdef bint is_too_slow(self) noexcept:
        cdef uint64_t rate = self.server.application.limits.body_rate
        cdef uint64_t took_ms = self.server.reactor.now_ms - self.window_at_ms
        cdef bint is_slow
        if took_ms < self.server.application.limits.body_ms:
            return False
        is_slow = (self.server.bytes_read - self.window_read) * 1000 < rate * took_ms
        self.window_read = self.server.bytes_read
        self.window_at_ms += took_ms
        return is_slow

    cdef void pause_body(self) noexcept:
        if not self.body_paused:
            self.paused_at_ms = self.server.reactor.now_ms
        H1Stream.pause_body(self)

    cdef void resume_body(self) noexcept:
        if self.body_paused and not self.body_done and not self.is_tunnel:
            self.server.arm(self.server.application.limits.body_ms)
            self.window_at_ms += self.server.reactor.now_ms - self.paused_at_ms
        H1Stream.resume_body(self)

    cdef int send_continue(self) noexcept:
        self.awaits_continue = False
        self.was_told = True
        if self.client_minor == 0 or self.head_sent:
            return 0
        return self.server.write_small(b"HTTP/1.1 100 Continue\r\n\r\n", 25)

    cdef int send_interim(self, ResponseHead head) noexcept:
        cdef Outgoing how
        cdef char* out
        if self.client_minor == 0 or self.head_sent or head.status_code == 100 and self.was_told:
            return 0
        if head.status_code == 100:
            self.awaits_continue = False
        memset(&how, 0, sizeof(how))
        out = self.head_place(response_room(head))
        if out == NULL:
            return -1
        self.server.reactor.counted[<int>ANSWERS + 1] += 1
        return self.head_written(encode_response(head, &how, out))

    cdef bint can_drain(self) noexcept:
        # a client that waits for 100 Continue may send its body or not: where the next request begins is not known
        return self.body_done or (self.framing.kind == BODY_LENGTH and self.body_left <= DRAIN_MOST
                                  and not self.framing.expects)

    cdef bint is_reusable(self, bint is_complete) noexcept:
        return (is_complete and self.can_drain() and not self.close_after and not self.is_tunnel
                and not (self.out_framing == FRAME_LENGTH and self.out_left))

    cdef void release(self, bint is_complete) noexcept:
        cdef bint reusable = self.is_reusable(is_complete)
        self.owner = None
        if self.server.is_broken or self.out_framing == FRAME_LENGTH and self.out_left:
            is_complete = False
        if self.server.is_closed:
            self.server.stream = None
        elif not is_complete and self.head_sent:
            # the answer is cut: the client must see it (RFC 9112 §8)
            self.server.stream = None
            self.server.flush()
            if self.out_framing == FRAME_CLOSE:
                self.server.reset()        # an end would be the proper one
            else:
                self.server.close()
        else:
            self.server.end_exchange(reusable)
