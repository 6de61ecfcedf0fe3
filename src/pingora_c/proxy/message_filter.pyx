"""Message filters. Own the message that is at the hook, and what waits behind it."""
cimport cython

import types

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t
from pingora_c.lib.unicode cimport PyUnicode_AsUTF8AndSize
from pingora_c.net.timer cimport timer_clear, timer_init, timer_unlink
from pingora_c.proxy.failure cimport HOOK_RAISED, HOOK_TIMEOUT, NO_MEMORY
from pingora_c.proxy.plan cimport WEBSOCKET_MESSAGE, Plan
from pingora_c.ws.frame cimport (
    WS_BAD_TEXT, WS_BINARY, WS_CLOSE, WS_RSV1, WS_TEXT, ws_check_close, ws_is_close_code, ws_reader_init,
)
from pingora_c.ws.message cimport (
    MESSAGE_CONTROL, MESSAGE_MORE, message_drop, message_frame, message_next, message_reader_close,
    message_writer_close,
)

cdef enum:
    TURN_BYTES = 1048576         # of messages, then others have their turn

cdef str UPSTREAM = "upstream"
cdef str DOWNSTREAM = "downstream"


class DropMessage:
    """Returned by `websocket_message`: the message goes no further. There is one, `DROP`."""

    def __repr__(self) -> str:
        return "DROP"


DROP = DropMessage()


class WebSocketClose:
    """Returned by `websocket_message`: close the WebSocket on both sides, with a code and a reason for both.

    Raises ValueError for a code that may not be sent or a reason of more than 123 bytes.
    """

    def __init__(self, code: int = 1000, reason: str = "") -> None:
        if not isinstance(code, int) or not 0 <= code < 65536 or not ws_is_close_code(code):
            raise ValueError(f"code: expected 1000 to 1003, 1007 to 1014 or 3000 to 4999, got {code!r}")
        if len(reason.encode()) > 123:
            raise ValueError("reason: expected at most 123 bytes of UTF-8")
        self.code = code
        self.reason = reason


cdef void fire_hook_timeout(void* owner) noexcept:
    cdef MessageFilter messages = <MessageFilter>owner
    messages.has_timed_out = True
    messages.cancel()


cdef class MessageOwner:
    """Every method is overridden."""

    cdef void on_frame(self, bint is_request, bytes frame) noexcept:
        pass

    cdef void on_close(self, bint is_request, bytes payload) noexcept:
        pass

    cdef void on_bad_message(self, bint is_request, int event) noexcept:
        pass

    cdef void on_hook_failed(self, int kind, object error) noexcept:
        pass

    cdef void on_close_asked(self, int code, bytes reason) noexcept:
        pass

    cdef void on_idle(self, bint is_request) noexcept:
        pass


@cython.final
cdef class MessageFilter:
    """Made by the core."""

    def __cinit__(self):
        timer_init(&self.timer, fire_hook_timeout, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.timer)
        message_reader_close(&self.reader)
        message_writer_close(&self.writer)

    @staticmethod
    cdef MessageFilter new(MessageOwner owner, HookContext hooks, Stream source, Stream sink, bint is_request,
                           const DeflateTerms* terms):
        cdef MessageFilter made = MessageFilter.__new__(MessageFilter)
        cdef uint8_t bits = terms.client_bits if is_request else terms.server_bits
        cdef bint resets = terms.client_resets if is_request else terms.server_resets
        made.owner = owner
        made.hooks = hooks
        made.source = source
        made.sink = sink
        made.is_request = is_request
        made.waiting = []
        ws_reader_init(&made.reader.frames, is_request, WS_RSV1 if terms.is_on else 0, False)
        made.reader.limit = hooks.plan.limits.message_bytes
        made.reader.most_fragments = hooks.plan.limits.message_fragments
        made.reader.window_bits = made.writer.window_bits = bits
        made.reader.resets = made.writer.resets = resets
        made.writer.is_masked = is_request
        made.writer.may_compress = terms.is_on and bits > 8
        return made

    # -- what comes

    cdef void feed(self, const char* data, size_t size) noexcept:
        cdef size_t used = 0
        cdef bint is_kept = True
        if self.is_idle():
            used = self.read(data, size)
        if used < size and self.owner is not None:
            try:
                self.keep(data + used, size - used)
            except:
                is_kept = False
            if not is_kept:
                self.owner.on_hook_failed(NO_MEMORY, None)

    cdef int keep(self, const char* data, size_t size) except -1:
        cdef bytes more = PyBytes_FromStringAndSize(data, <Py_ssize_t>size)
        self.rest = more if self.rest is None else self.rest + more
        return 0

    cdef bint is_idle(self) noexcept:
        return self.task is None and self.rest is None and not self.is_yielding

    cdef bint go_on(self) noexcept:
        cdef bytes rest = self.rest
        cdef size_t at = self.rest_at, size
        if self.task is not None or self.is_yielding:
            return False
        if rest is not None and not self.sink.is_full():
            self.rest = None
            self.rest_at = 0
            size = <size_t>PyBytes_GET_SIZE(rest) - at
            at += self.read(PyBytes_AS_STRING(rest) + at, size)
            if at < <size_t>PyBytes_GET_SIZE(rest) and self.owner is not None:
                self.rest = rest
                self.rest_at = at
        return self.owner is not None and self.is_idle()

    cdef size_t read(self, const char* data, size_t size) noexcept:
        """Take messages through the hook until one awaits, or the receiver is full; the bytes that are done."""
        cdef object error = None
        self.used = 0
        try:
            error = self.caught(data, size)
        except:
            pass   # ignored: only memory can lack here, and then nothing can be told
        if error is not None and self.owner is not None:
            self.owner.on_hook_failed(HOOK_RAISED, error)
        return self.used

    cdef object caught(self, const char* data, size_t size):
        try:
            self.run(data, size)
        except BaseException as error:
            return error

    cdef int run(self, const char* data, size_t size) except -1:
        cdef size_t consumed = 0, done = 0
        cdef int event
        while self.owner is not None:
            event = message_next(&self.reader, data + self.used, size - self.used, &consumed)
            self.used += consumed
            if event == MESSAGE_MORE:
                return 0
            if event < 0:
                self.used = size
                if not self.is_stopped:
                    self.owner.on_bad_message(self.is_request, event)
                return 0
            if event == MESSAGE_CONTROL:
                self.pass_control()
            else:
                done += self.reader.size
                self.call_hook()
            if self.is_stopped:
                continue
            if self.task is not None or self.sink.is_full():
                return 0
            if done > TURN_BYTES and self.used < size:
                self.is_yielding = True
                self.source.pause_body()
                self.hooks.plan.loop.call_soon(self.on_next_turn)
                return 0
        return 0

    def on_next_turn(self):
        """Others had their turn. Called by the loop."""
        self.hooks.plan.reactor.enter()
        self.is_yielding = False
        if self.owner is not None and self.go_on():
            self.owner.on_idle(self.is_request)
        self.hooks.plan.reactor.leave()

    cdef int pass_control(self) except -1:
        cdef bytes payload = self.reader.control[:self.reader.control_size]
        cdef int opcode = self.reader.frames.opcode
        cdef int code
        if opcode == WS_CLOSE:
            code = ws_check_close(self.reader.control, self.reader.control_size)
            if code < 0 and not self.is_stopped:
                self.owner.on_bad_message(self.is_request, code)
            else:
                self.owner.on_close(self.is_request, payload)
        elif not self.is_stopped:
            payload = self.control_frame(opcode, payload)
            self.owner.on_frame(self.is_request, payload)
            self.sink.press()
        return 0

    # -- the hook

    cdef object taken(self):
        """The message that is complete, as str or bytes; None if a text is not UTF-8."""
        cdef object message = None
        try:
            if self.reader.is_text:
                message = PyUnicode_DecodeUTF8(self.reader.data, <Py_ssize_t>self.reader.size, NULL)
            else:
                message = PyBytes_FromStringAndSize(self.reader.data, <Py_ssize_t>self.reader.size)
        except UnicodeDecodeError:
            pass
        finally:
            message_drop(&self.reader)
        return message

    cdef int call_hook(self) except -1:
        cdef HookContext hooks = self.hooks
        cdef object hook = hooks.plan.hooks[<int>WEBSOCKET_MESSAGE]
        cdef object result
        cdef uint64_t since_us
        cdef bint is_done = False
        if self.is_stopped:
            message_drop(&self.reader)
            return 0
        self.n_messages += 1
        self.was_compressed = self.reader.is_compressed
        self.message = self.taken()
        if self.message is None:
            self.owner.on_bad_message(self.is_request, WS_BAD_TEXT)
            return 0
        since_us = hooks.enter()
        try:
            result = hook(hooks.session, hooks.ctx, UPSTREAM if self.is_request else DOWNSTREAM, self.message)
        finally:
            hooks.leave(since_us)
        if type(result) is types.CoroutineType:
            result = hooks.start(result, &is_done)
            if not is_done:
                return self.wait_for(result)
        return self.settle(result)

    cdef int wait_for(self, object task) except -1:
        cdef Plan plan = self.hooks.plan
        cdef uint32_t limit_ms = plan.hook_timeout_ms
        self.task = task
        self.source.pause_body()
        if plan.hook_timeouts_ms is not None:
            limit_ms = plan.hook_timeouts_ms.get(<int>WEBSOCKET_MESSAGE, limit_ms)
        if limit_ms:
            plan.reactor.set_timer(&self.timer, limit_ms)
        task.add_done_callback(self.on_task_done)
        if self.owner is None or self.is_stopped:
            self.cancel()        # the hook itself ended the session before it awaited
        return 0

    cdef int settle(self, object result) except -1:
        """Do with the message what the hook said."""
        cdef object message = self.message
        cdef bytes frame
        self.message = None
        if self.owner is None or self.is_stopped or result is DROP:
            return 0
        if isinstance(result, WebSocketClose):
            self.owner.on_close_asked(result.code, result.reason.encode())
            return 0
        if result is None:
            result = message
        elif not isinstance(result, (str, bytes, bytearray, memoryview)):
            raise TypeError("websocket_message: expected None, str, bytes, DROP or a WebSocketClose, "
                            f"got {type(result).__name__}")
        frame = self.frame_of(result, self.was_compressed)
        self.owner.on_frame(self.is_request, frame)
        self.sink.press()
        return 0

    def on_task_done(self, task):
        """The hook that awaited has ended. Called by the loop."""
        cdef object error = None if task.cancelled() else task.exception()
        self.hooks.plan.reactor.enter()
        if task is self.task:
            self.task = None
            timer_clear(&self.timer)
            if self.owner is None:
                pass
            elif self.is_stopped:
                if self.go_on():
                    self.owner.on_idle(self.is_request)
            elif task.cancelled():
                self.owner.on_hook_failed(HOOK_TIMEOUT if self.has_timed_out else HOOK_RAISED, None)
            else:
                if error is None:
                    error = self.settled(task)
                if error is not None:
                    self.owner.on_hook_failed(HOOK_RAISED, error)
                elif self.go_on():
                    self.owner.on_idle(self.is_request)
        self.hooks.plan.reactor.leave()

    def settled(self, task):
        """Go on with the result of the hook; give the exception that was raised, or None."""
        try:
            self.settle(task.result())
        except BaseException as error:
            return error

    cdef void cancel(self) noexcept:
        try:
            if self.task is not None:
                self.task.cancel()
        except:
            pass   # ignored: the loop is closing and ends the task itself

    # -- what goes

    cdef bytes frame_of(self, object message, bint compress):
        cdef Py_ssize_t size = 0
        cdef const char* data
        cdef bytes binary
        if isinstance(message, str):
            data = PyUnicode_AsUTF8AndSize(message, &size)
            return message_frame(&self.writer, WS_TEXT, data, <size_t>size, compress)
        binary = bytes(message)
        return message_frame(&self.writer, WS_BINARY, PyBytes_AS_STRING(binary), <size_t>PyBytes_GET_SIZE(binary),
                             compress)

    cdef bytes control_frame(self, int opcode, bytes payload):
        return message_frame(&self.writer, <uint8_t>opcode, PyBytes_AS_STRING(payload),
                             <size_t>PyBytes_GET_SIZE(payload), False)

    cdef void stop(self) noexcept:
        cdef bytes rest = self.rest
        cdef size_t at = self.rest_at
        self.is_stopped = True
        self.rest = None
        self.rest_at = 0
        message_drop(&self.reader)
        self.cancel()
        if rest is not None and self.owner is not None:
            self.read(PyBytes_AS_STRING(rest) + at, <size_t>PyBytes_GET_SIZE(rest) - at)

    cdef void close(self) noexcept:
        self.owner = None
        self.stop()
        self.wake_senders()

    cdef void wake_senders(self) noexcept:
        cdef list waiting = self.waiting
        try:
            while waiting:
                future = waiting.pop()
                if not future.done():
                    future.set_result(None)
        except:
            pass   # ignored: the loop is closing
