"""Hook contexts. Own the contextvars.Context of a session."""
cimport cython

from cpython.contextvars cimport PyContext_Copy, PyContextVar_Set
from pingora_c.lib.context cimport PyContext_Enter, PyContext_Exit
from pingora_c.net.reactor cimport Reactor


@cython.final
@cython.freelist(8)
cdef class HookContext:
    """Made by the core."""

    @staticmethod
    cdef HookContext new(Plan plan, object session):
        cdef HookContext made = HookContext.__new__(HookContext)
        made.plan = plan
        made.session = session
        made.context = PyContext_Copy(plan.reactor.context)   # not the present one, which may be another session's
        return made

    cdef int set_variable(self, object variable, object value) except -1:
        PyContext_Enter(self.context)
        try:
            PyContextVar_Set(variable, value)
        finally:
            PyContext_Exit(self.context)
        return 0

    cdef uint64_t enter(self) except? 1:
        cdef Reactor reactor = self.plan.reactor
        PyContext_Enter(self.context)
        return reactor.now_us if reactor.is_behind_hook else reactor.look()

    cdef int leave(self, uint64_t since_us) except -1:
        cdef Reactor reactor = self.plan.reactor
        self.hooks_us += reactor.look() - since_us
        reactor.is_behind_hook = True
        PyContext_Exit(self.context)
        return 0

    cdef object start(self, object coroutine, bint* is_done):
        return self.plan.tasks.start(coroutine, self.context, is_done)
