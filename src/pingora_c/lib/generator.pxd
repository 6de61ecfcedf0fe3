"""Generators and coroutines of CPython: resuming one without an exception for its end."""
from cpython.ref cimport PyObject

cdef extern from "Python.h":
    # 0: returned, 1: yielded; `result` gets a new reference.
    int PyIter_Send(object iterator, object argument, PyObject** result) except -1
