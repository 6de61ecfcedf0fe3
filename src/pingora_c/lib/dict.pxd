"""Dicts of CPython: a look-up that raises nothing for what is not there."""
from cpython.object cimport PyObject

cdef extern from "Python.h":
    # borrowed; NULL, without an exception, for a key that is not there
    PyObject* PyDict_GetItemWithError(dict items, object key) except? NULL
