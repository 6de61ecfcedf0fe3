"""Tuples of CPython: the borrowed item that Cython's own declaration does not give."""
from cpython.object cimport PyObject

cdef extern from "Python.h":
    PyObject* PyTuple_GET_ITEM(tuple items, Py_ssize_t at) noexcept
