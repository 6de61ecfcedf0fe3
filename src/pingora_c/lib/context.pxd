"""contextvars of CPython: entering and leaving a Context without a call of `run`."""
cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
