"""The modules of the core: a header that setup.py writes."""
from cpython.object cimport PyObject


cdef extern from "core_modules.h":
    ctypedef struct CoreModule:
        const char *name  # NULL in the last row
        PyObject *(*begin)() noexcept  # gives its PyModuleDef, which lives as long as the library

    const CoreModule *core_modules
