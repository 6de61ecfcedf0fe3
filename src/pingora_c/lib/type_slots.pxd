"""The slots of CPython's type objects that say where an instance's memory comes from and where it goes."""
cdef extern from "Python.h":
    ctypedef struct PyObject:
        PyTypeObject* ob_type

    ctypedef PyObject* (*allocfunc)(PyTypeObject* type, Py_ssize_t n_items) except NULL
    ctypedef void (*freefunc)(void* thing) noexcept

    ctypedef struct PyTypeObject:
        unsigned long tp_flags
        unsigned int tp_version_tag    # another one after each change of the type; 0: none yet
        allocfunc tp_alloc
        freefunc tp_free

    const unsigned long Py_TPFLAGS_HEAPTYPE
