"""What Python's own loader calls to make a module of an extension."""
from cpython.object cimport PyObject


cdef extern from "Python.h":
    ctypedef struct PyModuleDef:
        pass

    object PyModule_FromDefAndSpec(PyModuleDef *definition, object spec)
