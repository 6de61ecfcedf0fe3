"""Running the hooks of a session's phases: synchronous ones in place, coroutines as one task at a time with a limit,
and what follows from a result, an exception or a cancellation. Which phase comes next is decided in the subclasses,
Attempts and Exchange.
"""
from libc.stdint cimport uint8_t, uint32_t
from pingora_c.http.message cimport RequestHead
from pingora_c.net.timer cimport Timer
from pingora_c.proxy.relay cimport Relay
from pingora_c.upstream.balancer cimport SelectionScope

cdef enum SessionState:
    SESSION_FILTERS = 0
    SESSION_CONNECTING = 1
    SESSION_RELAYING = 2
    SESSION_LOGGING = 3
    SESSION_DONE = 4


cdef class Phases(Relay):
    cdef RequestHead request_head
    cdef SelectionScope scope         # None until something was tried
    cdef object task                  # the running coroutine, None if none
    cdef object abandoned             # a coroutine that went on after its cancellation, until the session ends
    cdef object cause                 # exception of a hook that failed
    cdef Timer timer                  # limit of the running hook
    cdef uint8_t state                # SessionState
    cdef uint8_t phase                # Phase of the hook that runs or ran last
    cdef uint8_t task_phase           # Phase that `task` belongs to
    cdef object next_answer           # a Response to send as soon as `task`, which was cancelled, has ended
    cdef uint8_t failure              # FailureKind, OK if none
    cdef uint8_t first_failure        # of an attempt; what is told if no other endpoint is left
    cdef uint8_t attempt_failure      # why the present attempt failed, or the tunnel
    cdef str detail                   # more about it, for logs; None: there is none
    cdef bint is_cancelled            # `task` is, and has until `timer` to end
    cdef bint lost                    # the attempt failed while a hook ran: decide when it ends

    # Run a phase and what follows it.
    cdef void run(self, int phase) noexcept
    # Go on behind a phase with the result of its hook.
    cdef void after(self, int phase, object result) noexcept
    cdef int run_or_raise(self, int phase) except -1
    cdef int prepare_hooks(self) except -1     # before each; what there is already stays
    cdef int begin_hooks(self) except -1
    cdef int show_scope(self) except -1
    cdef void make_scope(self) noexcept
    # Let a coroutine go on; on_task_done follows.
    cdef int wait_for(self, int phase, object task) except -1
    cdef uint32_t hook_limit_ms(self, int phase) except? 1       # 0: none
    cdef void cancel_task(self) noexcept
    cdef void abandon_task(self) noexcept
    cdef int go_on_behind(self, object task) except -1
    cdef void report(self, int phase, object error) noexcept      # to the error log, with its traceback
    # -- private
    cdef void go_on(self, int phase, object result, bint is_over) noexcept
    cdef object caught(self, int phase, object result, bint is_over)
    cdef void hook_failed(self, int phase, object error) noexcept
    # -- overridden
    cdef object call(self, int phase, object hook)
    cdef int after_or_raise(self, int phase, object result) except -1
    cdef void settle(self) noexcept
    cdef void default_page(self) noexcept

cdef str request_line(object head)
