"""Body filters. Own the chunk that is on its way through the hooks; know streams only as something to pause."""
cimport cython

import types

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from pingora_c.proxy.plan cimport (
    REQUEST_BODY_FILTER, RESPONSE_BODY_FILTER, RESPONSE_TRAILER_FILTER, UPSTREAM_RESPONSE_BODY_FILTER,
    UPSTREAM_RESPONSE_TRAILER_FILTER,
)
from pingora_c.proxy.response cimport Response

from pingora_c.proxy.plan import PHASES as _PHASES

cdef tuple REQUEST_STAGES = (REQUEST_BODY_FILTER,)
cdef tuple RESPONSE_STAGES = (
    UPSTREAM_RESPONSE_BODY_FILTER, RESPONSE_BODY_FILTER, UPSTREAM_RESPONSE_TRAILER_FILTER, RESPONSE_TRAILER_FILTER,
)


class LastChunk(bytes):
    """Returned by a body filter: the body ends with these bytes, what the source still sends is discarded."""

    def __new__(cls, data=b""):
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"LastChunk: expected bytes, got {type(data).__name__}")
        return bytes.__new__(cls, data)


cdef bint has_body_hooks(Plan plan, bint is_request) noexcept:
    return plan.has_request_body_hooks if is_request else plan.has_response_body_hooks


@cython.final
cdef class BodyFilter:
    """Made by the core."""

    @staticmethod
    cdef BodyFilter new(HookContext hooks, StreamOwner owner, Stream source, bint is_request):
        cdef BodyFilter made = BodyFilter.__new__(BodyFilter)
        made.hooks = hooks
        made.owner = owner
        made.source = source
        made.is_request = is_request
        made.stages = REQUEST_STAGES if is_request else RESPONSE_STAGES
        made.n_body_stages = 1 if is_request else 2
        return made

    cdef void feed(self, const char* data, size_t size) noexcept:
        cdef bytes chunk = None
        if self.has_ended or self.owner is None:
            return
        try:
            chunk = PyBytes_FromStringAndSize(data, size)
        except:
            pass   # ignored: no memory, told below
        if chunk is None:
            self.failed(None)
            return
        self.chunk = chunk
        self.stage = 0
        self.go_on()

    cdef void feed_end(self, Trailers trailers) noexcept:
        self.source_ended = True
        self.trailers = trailers
        if self.task is None and not self.has_ended and self.owner is not None:
            self.chunk = b""
            self.is_last = True
            self.stage = 0
            self.go_on()

    cdef void close(self) noexcept:
        cdef object task = self.task
        self.owner = None
        self.task = None
        if task is not None:
            try:
                task.cancel()
            except:
                pass   # ignored: the loop is closing and ends the task itself

    cdef void go_on(self) noexcept:
        cdef object error = None
        try:
            error = self.caught()
        except:
            pass   # ignored: only memory can lack here, and then nothing can be told
        if error is not None:
            self.failed(error)

    cdef object caught(self):
        try:
            self.run()
        except BaseException as error:
            return error

    cdef void failed(self, object error) noexcept:
        cdef StreamOwner owner = self.owner
        if owner is not None:
            owner.on_filter_failed(self.phase, error)

    cdef int run(self) except -1:
        """Take the chunk through the stages that are left; stop where a hook awaits."""
        cdef StreamOwner owner = self.owner
        cdef bytes chunk
        while self.owner is not None:
            while self.stage < self.n_body_stages:
                if not self.chunk and not self.is_last:
                    break       # dropped
                if not self.call(self.stages[self.stage]):
                    return 0
                self.stage += 1
            if self.stage == self.n_body_stages:
                if self.chunk and self.owner is not None:
                    chunk = self.chunk
                    owner.on_filtered(self.is_request, chunk)
            self.chunk = b""
            if self.is_last:
                break
            if not self.source_ended:
                return 0
            self.is_last = True
            self.stage = 0
        return self.next_chunk()

    cdef int next_chunk(self) except -1:
        """The last chunk went out: the trailers follow, then the end."""
        cdef StreamOwner owner = self.owner
        cdef Trailers trailers = self.trailers
        cdef bytes chunk
        while self.owner is not None and self.trailers is not None and self.stage < len(self.stages):
            if not self.call(self.stages[self.stage]):
                return 0
            self.stage += 1
        if self.chunk and self.trailers is None and self.owner is not None:
            chunk = self.chunk
            owner.on_filtered(self.is_request, chunk)      # what a filter made of the trailers
            trailers = None
        self.chunk = b""
        if owner is not None and self.owner is not None:
            self.has_ended = True
            owner.on_filtered_end(self.is_request, trailers)
        return 0

    cdef bint call(self, int phase) except -1:
        """Run one hook; False: it awaits, and on_task_done goes on."""
        cdef object hook = self.hooks.plan.hooks[phase]
        cdef object result
        cdef uint64_t since_us
        cdef bint is_done = False
        if hook is None:
            return True
        self.phase = phase
        since_us = self.hooks.enter()
        try:
            if self.stage >= self.n_body_stages:
                result = hook(self.hooks.session, self.trailers.headers, self.hooks.ctx)
            else:
                result = hook(self.hooks.session, self.chunk, bool(self.is_last), self.hooks.ctx)
        finally:
            self.hooks.leave(since_us)
        if type(result) is types.CoroutineType:
            result = self.hooks.start(result, &is_done)
            if not is_done:
                self.task = result
                self.source.pause_body()
                result.add_done_callback(self.on_task_done)
                return False
        self.take(phase, result)
        return True

    cdef int take(self, int phase, object result) except -1:
        if result is None or self.owner is None:
            return 0
        if type(result) is Response and self.is_request:
            self.owner.on_filter_answer(result)
            return 0
        if not isinstance(result, (bytes, bytearray, memoryview)):
            raise TypeError(f"{_PHASES[phase]}: expected None or bytes, got {type(result).__name__}")
        if self.stage >= self.n_body_stages or isinstance(result, LastChunk):
            self.is_last = True
            self.trailers = None
        self.chunk = bytes(result)
        return 0

    def on_task_done(self, task):
        """A hook that awaited has ended. Called by the loop."""
        cdef object error
        self.hooks.plan.reactor.enter()
        if self.owner is None or task is not self.task:
            if not task.cancelled():
                task.exception()     # retrieved, so that the loop does not complain about it
        else:
            self.task = None
            error = self.continue_with(task)
            if error is not None:
                self.failed(error)
            elif self.task is None and self.owner is not None and not self.has_ended:
                self.owner.on_filter_idle(self.is_request)
        self.hooks.plan.reactor.leave()

    def continue_with(self, task):
        """Go on with the result of the hook that awaited; give the exception that was raised, or None."""
        try:
            self.take(self.stages[self.stage], task.result())
            self.stage += 1
            if self.stage > self.n_body_stages:
                self.next_chunk()
            else:
                self.run()
        except BaseException as error:
            return error
