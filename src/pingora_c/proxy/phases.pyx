"""The hooks of a session. Own the running task; know no stream and no balancer."""
import types

from libc.stdint cimport uint32_t, uint64_t
from pingora_c.net.reactor cimport Reactor
from pingora_c.net.timer cimport timer_clear, timer_init, timer_unlink
from pingora_c.proxy.failure cimport HOOK_RAISED, HOOK_TIMEOUT, NO_UPSTREAM, OK, error_kind
from pingora_c.proxy.hook_context cimport HookContext
from pingora_c.proxy.plan cimport (
    ANSWER_BODY, FAIL_TO_PROXY, PHASE_END, SUPPRESS_ERROR_LOG, UPSTREAM_PEER, UPSTREAM_REQUEST_FILTER,
    WEBSOCKET_MESSAGE,
)
from pingora_c.upstream.balancer cimport SelectionScope, selection_scope

from pingora_c.proxy.failure import SessionEnded
from pingora_c.proxy.plan import PHASES as _PHASES
from pingora_c.proxy.response import Response
from pingora_c.upstream.balancer import NoUpstream


cdef enum:
    CANCELLING_MS = 1000       # that a hook may take to end when it is cancelled

cdef object CoroutineType = types.CoroutineType


cdef str request_line(object head):
    return f"{head.method} {head.target}"


cdef str phase_name(int phase):
    return _PHASES[phase] if phase < PHASE_END else "the body of a Response"


cdef void fire_hook_timeout(void* owner) noexcept:
    cdef Phases session = <Phases>owner
    if session.is_cancelled:
        session.abandon_task()
        return
    if session.task_phase < FAIL_TO_PROXY and session.failure == OK:
        session.failure = HOOK_TIMEOUT
    session.cancel_task()


cdef class Phases(Relay):
    """Made by the core."""

    def __cinit__(self):
        timer_init(&self.timer, fire_hook_timeout, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.timer)

    cdef void run(self, int phase) noexcept:
        self.go_on(phase, None, False)

    cdef void after(self, int phase, object result) noexcept:
        self.go_on(phase, result, True)

    cdef void go_on(self, int phase, object result, bint is_over) noexcept:
        cdef object error = None
        try:
            error = self.caught(phase, result, is_over)
        except:
            pass   # ignored: only memory can lack here, and then nothing can be told
        if error is not None:
            self.hook_failed(self.phase, error)

    cdef object caught(self, int phase, object result, bint is_over):
        """Run a phase, or (`is_over`) go on behind it with `result`; give the exception that was raised, or None."""
        try:
            if is_over:
                self.after_or_raise(phase, result)
            else:
                self.run_or_raise(phase)
        except BaseException as error:
            return error

    cdef int run_or_raise(self, int phase) except -1:
        cdef object hook = self.plan.hooks[phase]
        cdef object result = None
        cdef uint64_t since_us
        cdef bint is_done = False
        self.phase = phase
        if hook is not None:
            self.prepare_hooks()
            since_us = self.hooks.enter()
            try:
                result = self.call(phase, hook)
            finally:
                self.hooks.leave(since_us)
            if result is not None and type(result) is CoroutineType:
                result = self.hooks.start(result, &is_done)
                if not is_done:
                    return self.wait_for(phase, result)
        self.after_or_raise(phase, result)
        return 0

    cdef void make_scope(self) noexcept:
        try:
            self.scope = SelectionScope()
        except:
            pass   # ignored: without memory the same endpoint may be tried again

    cdef int prepare_hooks(self) except -1:
        if self.hooks is None:
            self.begin_hooks()
        return self.show_scope() if self.scope is not None else 0

    cdef int begin_hooks(self) except -1:
        self.hooks = HookContext.new(self.plan, self.plan.new_session(self))
        return 0

    cdef int show_scope(self) except -1:
        """Have the selections of hooks leave out what was tried, if their choice is ever used."""
        if not self.hooks.shows_scope and self.plan.hooks[<int>UPSTREAM_PEER] is not None:
            self.hooks.set_variable(selection_scope, self.scope)
            self.hooks.shows_scope = True
        return 0

    cdef uint32_t hook_limit_ms(self, int phase) except? 1:
        if phase == ANSWER_BODY:
            return 0
        if self.plan.hook_timeouts_ms is not None:
            return self.plan.hook_timeouts_ms.get(phase, self.plan.hook_timeout_ms)
        return self.plan.hook_timeout_ms

    cdef int wait_for(self, int phase, object task) except -1:
        cdef uint32_t limit_ms = self.hook_limit_ms(phase)
        self.task = task
        self.task_phase = phase
        if limit_ms and self.reader is None:
            self.plan.reactor.set_timer(&self.timer, limit_ms)
        task.add_done_callback(self.on_task_done)
        return 0

    cdef void on_body_read(self) noexcept:
        cdef uint32_t limit_ms = 0
        try:
            limit_ms = self.hook_limit_ms(self.task_phase)
        except:
            pass   # ignored: looking up a number in a dict fails only without memory
        if self.task is not None and limit_ms and not self.is_cancelled:
            self.plan.reactor.set_timer(&self.timer, limit_ms)

    def on_task_done(self, task):
        """The coroutine of a hook ended. Called by the loop."""
        cdef Reactor reactor = self.plan.reactor
        if task is self.task:
            reactor.enter()
            self.go_on_behind(task)
            reactor.leave()

    cdef int go_on_behind(self, object task) except -1:
        """The task has ended, or is not waited for any more after its cancellation."""
        cdef int phase = self.task_phase
        cdef bint is_cancelled = not task.done() or task.cancelled()
        cdef object error = None if is_cancelled else task.exception()
        cdef bint lost = self.lost
        self.task = None
        self.lost = self.is_cancelled = False
        timer_clear(&self.timer)
        if self.state == SESSION_DONE:
            pass
        elif self.next_answer is not None and not self.response_sent:
            answer = self.next_answer
            self.next_answer = None    # its stream may refer to us
            self.after(UPSTREAM_REQUEST_FILTER, answer)
        elif is_cancelled:
            if phase >= SUPPRESS_ERROR_LOG and phase != ANSWER_BODY:
                self.after(phase, None)
            else:
                self.fail(self.failure if self.failure else HOOK_RAISED)
        elif error is not None:
            self.hook_failed(phase, error)
        elif self.failure and phase < FAIL_TO_PROXY:
            self.fail(self.failure)
        elif lost and type(task.result()) is not Response:
            self.settle()
        else:
            self.after(phase, task.result())
        return 0

    cdef void cancel_task(self) noexcept:
        if self.is_cancelled:
            return
        self.is_cancelled = True
        self.plan.reactor.set_timer(&self.timer, CANCELLING_MS)
        try:
            self.task.cancel()
        except:
            pass   # ignored: the loop is closing and ends the task itself

    cdef void abandon_task(self) noexcept:
        """The session goes on without a hook that goes on in spite of its cancellation."""
        cdef object error
        try:
            error = RuntimeError(f"it goes on {CANCELLING_MS // 1000} s after it was cancelled; it must let "
                                 "asyncio.CancelledError pass")
            self.report(self.task_phase, error)
            self.abandoned = self.task
            self.end_reading(SessionEnded("the hook was cancelled"))
            self.go_on_behind(self.task)
        except:
            pass   # ignored: without memory it is waited for

    cdef void hook_failed(self, int phase, object error) noexcept:
        """A hook raised: 503 if no upstream was to be had, else 500, with the traceback in the error log."""
        cdef int kind = OK
        self.cause = error
        try:
            if isinstance(error, NoUpstream):
                kind = self.first_failure if self.first_failure else NO_UPSTREAM
            else:
                kind = error_kind(error)
        except:
            pass   # ignored: it counts as raised
        if kind == OK:
            kind = HOOK_RAISED
            self.report(phase, error)
        if phase >= SUPPRESS_ERROR_LOG and phase != ANSWER_BODY:
            self.after(phase, None)
        elif phase == FAIL_TO_PROXY:
            self.default_page()
        else:
            self.fail(kind)

    cdef void on_tunnel_failed(self, int kind, str detail, object error) noexcept:
        if self.failure == OK:
            self.failure = self.attempt_failure = kind
            self.detail = detail
            self.cause = error
        if error is not None:
            self.report(WEBSOCKET_MESSAGE, error)

    cdef void report(self, int phase, object error) noexcept:
        try:
            self.plan.on_hook_error(phase_name(phase), request_line(self.request_head), error)
        except:
            pass   # ignored: reporting must not fail the session a second time

    # -- overridden

    cdef object call(self, int phase, object hook):
        return None

    cdef int after_or_raise(self, int phase, object result) except -1:
        return 0

    cdef void settle(self) noexcept:
        pass

    cdef void default_page(self) noexcept:
        pass
