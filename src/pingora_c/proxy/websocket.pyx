"""WebSocket tunnels. Own the readers of frames, both filters and the time of closing."""
cimport cython

from libc.string cimport memset
from pingora_c.base.span cimport Span
from pingora_c.h1.upgrade cimport names_websocket
from pingora_c.http.field cimport NAME_UPGRADE
from pingora_c.http.header_block cimport block_find_known
from pingora_c.net.timer cimport timer_clear, timer_init, timer_unlink
from pingora_c.proxy.failure cimport CLIENT_BAD_FRAME, NO_MEMORY, TUNNEL_TIMEOUT, UPSTREAM_BAD_FRAME
from pingora_c.proxy.plan cimport WEBSOCKET_MESSAGE
from pingora_c.ws.deflate cimport known_offers, read_terms
from pingora_c.ws.frame cimport (
    WS_CLOSE, WS_END, WS_FRAME, WS_MORE, WS_RSV, ws_at_boundary, ws_error_code, ws_error_reason, ws_next,
    ws_reader_init,
)
from pingora_c.ws.message cimport MESSAGE_NO_MEMORY, MessageWriter, message_frame

from pingora_c.proxy.failure import SessionEnded
from pingora_c.proxy.message_filter import WebSocketClose

cdef enum:
    LEAVING_MS = 1000            # for both sides to answer our Close frames
    GOING_AWAY = 1001
    INTERNAL_ERROR = 1011
    COMPRESSED_FROM = 64         # bytes of a message of `send` that is worth it
    SENDS_PER_TURN = 16          # then others have their turn

cdef str EXTENSIONS = "sec-websocket-extensions"


def _let_go_on(future):
    """Called by the loop."""
    if not future.done():
        future.set_result(None)


cdef void fire_timer(void* owner) noexcept:
    (<WebSocket>owner).on_timer()


cdef RequestHead with_known_extensions(RequestHead head):
    cdef RequestHead changed
    cdef list offered = head.headers.get_all(EXTENSIONS)
    cdef str known
    if not offered or not names_websocket(&head.block):
        return head
    known = known_offers(offered)
    changed = head.copy()
    if changed is None:
        raise MemoryError
    if known:
        changed.headers[EXTENSIONS] = known
    else:
        changed.headers.remove(EXTENSIONS)
    return changed


@cython.final
cdef class WebSocket(MessageOwner):
    """A WebSocket through the proxy, as hooks see it. Made by the core.

    Directions are "upstream", from the client to the upstream, and "downstream".
    """

    def __cinit__(self):
        timer_init(&self.timer, fire_timer, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.timer)

    @staticmethod
    cdef WebSocket open(StreamOwner owner, Plan plan, HookContext hooks, Stream down, Stream up, RequestHead request,
                        ResponseHead response):
        cdef WebSocket made
        if not names_websocket(&response.block) and not (
                block_find_known(&response.block, NAME_UPGRADE, 0) < 0 and names_websocket(&request.block)):
            return None
        made = WebSocket.__new__(WebSocket)
        made.owner = owner
        made.plan = plan
        made.start(hooks, down, up, response)
        return made

    cdef int start(self, HookContext hooks, Stream down, Stream up, ResponseHead response) except -1:
        memset(&self.up, 0, sizeof(Way))
        memset(&self.down, 0, sizeof(Way))
        if self.plan.hooks[<int>WEBSOCKET_MESSAGE] is not None:
            read_terms(response.headers.get_all(EXTENSIONS), &self.terms)
            self.up_filter = MessageFilter.new(self, hooks, down, up, True, &self.terms)
            self.down_filter = MessageFilter.new(self, hooks, up, down, False, &self.terms)
        else:
            ws_reader_init(&self.up.frames, True, WS_RSV, True)
            ws_reader_init(&self.down.frames, False, WS_RSV, True)
        self.plan.websockets.add(self)
        if self.plan.limits.message_ms:
            self.arm(self.plan.limits.message_ms // 4 + 1)
        return 0

    cdef void arm(self, uint64_t delay_ms) noexcept:
        self.plan.reactor.set_timer(&self.timer, delay_ms)

    cdef Way* way(self, bint is_request) noexcept:
        return &self.up if is_request else &self.down

    # -- what comes

    cdef void take(self, bint is_request, const char* data, size_t size) noexcept:
        cdef Way* way = self.way(is_request)
        cdef MessageFilter messages = self.up_filter if is_request else self.down_filter
        cdef size_t part
        if messages is not None:
            messages.feed(data, size)
            return
        if self.is_lost:
            self.owner.on_passed(is_request, data, size)
            return
        if not way.is_cut:
            part = self.scan(way, data, size, self.is_leaving)
            self.owner.on_passed(is_request, data, part)
            if not self.is_leaving or self.is_lost or self.owner is None:
                return
            if ws_at_boundary(&way.frames) or way.was_answered:
                self.send_close(is_request)
            data += part
            size -= part
        self.scan(way, data, size, False)
        self.check_left()

    cdef size_t scan(self, Way* way, const char* data, size_t size, bint to_boundary) noexcept:
        """Follow the frames in what came, to the end of the present one or to the end of all; the bytes up to there."""
        cdef size_t at = 0, used = 0
        cdef Span span
        cdef int result
        while True:
            if to_boundary and ws_at_boundary(&way.frames):
                return at
            result = ws_next(&way.frames, data + at, size - at, &used, &span)
            at += used
            if result == WS_FRAME:
                self.n_messages += way.frames.opcode < WS_CLOSE
            elif result == WS_END and way.frames.opcode == WS_CLOSE:
                way.was_answered = True
                way.has_closed |= not way.is_cut
                if self.is_over():
                    self.arm(LEAVING_MS)
            elif result == WS_MORE:
                return size
            elif result < 0:
                self.is_lost = True
                return size

    cdef bint holds_end(self, bint is_request) noexcept:
        cdef MessageFilter messages = self.up_filter if is_request else self.down_filter
        self.way(is_request).was_answered = True
        if self.is_leaving:
            self.check_left()
            return True
        if messages is None:
            return False
        messages.source_ended = True
        return not messages.is_idle()

    cdef bint go_on(self, bint is_request) noexcept:
        cdef MessageFilter messages = self.up_filter if is_request else self.down_filter
        if messages is None:
            return True
        messages.wake_senders()
        if self.owner is None or messages.is_idle():
            return True
        if not messages.go_on():
            return False
        if not messages.source_ended:
            return True
        self.on_idle(is_request)
        return False

    # -- from the filters

    cdef void on_frame(self, bint is_request, bytes frame) noexcept:
        if self.owner is not None and not self.way(is_request).has_closed:
            self.owner.on_filtered(is_request, frame)

    cdef void on_close(self, bint is_request, bytes payload) noexcept:
        cdef Way* way = self.way(is_request)
        cdef MessageFilter messages = self.up_filter if is_request else self.down_filter
        cdef bytes frame = None
        way.was_answered = True
        if not way.has_closed:
            try:
                frame = messages.control_frame(WS_CLOSE, payload)
            except:
                pass   # ignored: without memory for it the end of the connection has to do
            if frame is not None:
                self.on_frame(is_request, frame)
            way.has_closed = True
        if self.is_leaving:
            self.check_left()
        elif self.is_over():
            self.arm(LEAVING_MS)

    cdef void on_bad_message(self, bint is_request, int event) noexcept:
        cdef int kind = CLIENT_BAD_FRAME if is_request else UPSTREAM_BAD_FRAME
        cdef bytes reason = b""
        if event == MESSAGE_NO_MEMORY:
            self.on_hook_failed(NO_MEMORY, None)
            return
        try:
            reason = ws_error_reason(event)
            self.owner.on_tunnel_failed(kind, reason.decode("ascii"), None)
        except:
            pass   # ignored: the log says less
        # who broke the protocol is told how, and its frames cannot be followed any more; the other one that it is over
        self.leave_code = ws_error_code(event)
        self.leave_reason = reason
        self.send_close(not is_request)
        self.way(is_request).was_answered = True
        self.begin_leaving(GOING_AWAY, b"")

    cdef void on_hook_failed(self, int kind, object error) noexcept:
        if self.owner is not None:
            self.owner.on_tunnel_failed(kind, None, error)
            self.begin_leaving(INTERNAL_ERROR, b"")

    cdef void on_close_asked(self, int code, bytes reason) noexcept:
        self.begin_leaving(code, reason)

    cdef void on_idle(self, bint is_request) noexcept:
        cdef MessageFilter messages = self.up_filter if is_request else self.down_filter
        if self.owner is None:
            return
        if messages.source_ended and not self.is_leaving:
            self.owner.on_filtered_end(is_request, None)
        else:
            self.owner.on_filter_idle(is_request)

    # -- closing

    cdef bint leave(self, int code, bytes reason) noexcept:
        if self.owner is None or self.is_leaving or self.is_lost:
            return self.is_leaving and self.owner is not None
        self.begin_leaving(code, reason)
        return True

    cdef void begin_leaving(self, int code, bytes reason) noexcept:
        if self.is_leaving or self.owner is None:
            return
        self.is_leaving = True
        self.leave_code = code
        self.leave_reason = reason
        self.arm(LEAVING_MS)
        self.leave_way(True)
        self.leave_way(False)
        self.check_left()

    cdef void leave_way(self, bint is_request) noexcept:
        cdef Way* way = self.way(is_request)
        cdef MessageFilter messages = self.up_filter if is_request else self.down_filter
        if messages is not None or ws_at_boundary(&way.frames) or way.was_answered:
            self.send_close(is_request)
        if messages is not None:
            messages.stop()
        if self.owner is not None:
            self.owner.on_filter_idle(is_request)      # a hook may have paused it

    cdef void send_close(self, bint is_request) noexcept:
        cdef Way* way = self.way(is_request)
        cdef bytes frame = None
        way.is_cut = True
        if way.has_closed or self.owner is None:
            return
        way.has_closed = True
        try:
            frame = self.close_frame(is_request)
        except:
            pass   # ignored: without memory for it the end of the connection has to do
        if frame is not None:
            self.owner.on_filtered(is_request, frame)

    cdef bytes close_frame(self, bint is_request):
        cdef MessageWriter writer
        cdef bytes payload = bytes((self.leave_code >> 8, self.leave_code & 255)) + self.leave_reason
        cdef const char* data = payload
        memset(&writer, 0, sizeof(writer))
        writer.is_masked = is_request
        return message_frame(&writer, WS_CLOSE, data, <size_t>len(payload), False)

    cdef void check_left(self) noexcept:
        """Both sides have answered, or ended: it is over. Not now, as the caller may be at work on one of them."""
        if self.is_leaving and self.up.was_answered and self.down.was_answered and (
                self.up.has_closed and self.down.has_closed):
            self.arm(0)

    cdef void stay(self) noexcept:
        self.arm(LEAVING_MS)

    cdef bint is_over(self) noexcept:
        return self.up.has_closed and self.down.has_closed and not self.is_leaving

    cdef void on_timer(self) noexcept:
        cdef StreamOwner owner = self.owner
        if owner is None:
            return
        if self.is_leaving or self.is_over():
            owner.on_left()
        else:
            self.watch()

    cdef void watch(self) noexcept:
        """Close a WebSocket in which no message moves for message_ms, seen four times in that time."""
        cdef uint64_t n = self.n_messages
        if self.up_filter is not None:
            n = self.up_filter.n_messages + self.down_filter.n_messages + self.n_sent
        if n != self.n_before or self.is_lost:
            self.n_before = n
            self.quiet_quarters = 0
        elif self.quiet_quarters == 4:
            self.owner.on_tunnel_failed(TUNNEL_TIMEOUT, "no message", None)
            self.begin_leaving(GOING_AWAY, b"idle")
            return
        self.quiet_quarters += 1
        self.arm(self.plan.limits.message_ms // 4 + 1)

    cdef void end(self) noexcept:
        self.owner = None
        timer_clear(&self.timer)
        try:
            self.plan.websockets.discard(self)
        except:
            pass   # ignored: discarding allocates nothing
        if self.up_filter is not None:
            self.up_filter.close()
            self.down_filter.close()

    # -- for hooks

    def send(self, str direction not None, message):
        """Send a message of the proxy's own, a str or bytes, behind what went on in that direction before.

        Give a future that is done once the receiver has room for more; awaiting it keeps the memory bounded. Raises
        ValueError for another direction, TypeError for another message, SessionEnded if it has been closed.
        """
        cdef bint is_request
        cdef MessageFilter messages
        if direction not in ("upstream", "downstream"):
            raise ValueError(f'direction: expected "upstream" or "downstream", got {direction!r}')
        if not isinstance(message, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"message: expected str or bytes, got {type(message).__name__}")
        is_request = direction == "upstream"
        if self.owner is None or self.way(is_request).has_closed:
            raise SessionEnded("send: the WebSocket has been closed")
        messages = self.up_filter if is_request else self.down_filter
        frame = messages.frame_of(message, len(message) >= COMPRESSED_FROM)
        future = self.plan.loop.create_future()
        self.plan.reactor.enter()
        self.on_frame(is_request, frame)
        messages.sink.press()
        self.n_sent += 1
        if self.owner is not None and messages.sink.is_full():
            messages.waiting.append(future)
        elif self.n_sent % SENDS_PER_TURN == 0:
            self.plan.loop.call_soon(_let_go_on, future)      # else who sends without end would leave nobody a turn
        else:
            future.set_result(None)
        self.plan.reactor.leave()
        return future

    def close(self, code=1000, reason=""):
        """Close both sides; messages that are on their way are lost. Nothing happens if it was closed before.

        Raises ValueError for a code that may not be sent or a reason of more than 123 bytes.
        """
        asked = WebSocketClose(code, reason)
        self.plan.reactor.enter()
        self.begin_leaving(asked.code, asked.reason.encode())
        self.plan.reactor.leave()

    @property
    def is_closed(self):
        """True once a Close frame went to either side."""
        return bool(self.owner is None or self.up.has_closed or self.down.has_closed)
