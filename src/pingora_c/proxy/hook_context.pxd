"""What all hooks of one session share: the objects they get, and the context they run in."""
cimport cython
from libc.stdint cimport uint64_t
from pingora_c.proxy.plan cimport Plan


@cython.final
cdef class HookContext:
    cdef Plan plan
    cdef object session      # the Session that hooks get; it refers to the exchange, which drops this at its end
    cdef object context      # contextvars.Context, one per session
    cdef object ctx          # what new_ctx made
    cdef uint64_t hooks_us   # time in the synchronous parts of hooks
    cdef bint shows_scope    # what was tried is known in it, to selections

    @staticmethod
    cdef HookContext new(Plan plan, object session)
    cdef int set_variable(self, object variable, object value) except -1
    # Around every call of a hook: `enter` gives the time that `leave` wants back.
    cdef uint64_t enter(self) except? 1
    cdef int leave(self, uint64_t since_us) except -1
    # TaskStarter.start in this context.
    cdef object start(self, object coroutine, bint* is_done)
