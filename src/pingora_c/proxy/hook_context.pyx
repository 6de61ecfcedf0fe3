"""Hook contexts. Own the contextvars.Context of a session."""
cimport cython

from cpython.contextvars cimport PyContext_Copy, PyContextVar_Set
from pingora_c.base.clock cimport now_us
from pingora_c.lib.context cimport PyContext_Enter, PyContext_Exit


@cython.final
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
        PyContext_Enter(self.context)
        return now_us()

    cdef int leave(self, uint64_t since_us) except -1:
        self.hooks_us += now_us() - since_us
        PyContext_Exit(self.context)
        return 0

    cdef object start(self, object coroutine, bint* is_done):
        return self.plan.tasks.start(coroutine, self.context, is_done)
