"""The slots of CPython's type objects: where an instance's memory comes from and goes, how it is made and read."""
cdef extern from "Python.h":
    ctypedef struct PyObject:
        PyTypeObject* ob_type

    ctypedef PyObject* (*allocfunc)(PyTypeObject* type, Py_ssize_t n_items) except NULL
    ctypedef void (*freefunc)(void* thing) noexcept
    ctypedef object (*getter)(object self, void* closure)
    ctypedef object (*getattrofunc)(object self, object name)
    # `n_arguments` has PY_VECTORCALL_ARGUMENTS_OFFSET in it: see PyVectorcall_NARGS
    ctypedef object (*vectorcallfunc)(object callable, PyObject* const* arguments, size_t n_arguments, PyObject* names)

    ctypedef struct PyGetSetDef:
        const char* name               # NULL ends a table
        getter get
        void* closure

    ctypedef struct PyTypeObject:
        unsigned long tp_flags
        unsigned int tp_version_tag    # another one after each change of the type; 0: none yet
        allocfunc tp_alloc
        freefunc tp_free
        getattrofunc tp_getattro
        PyGetSetDef* tp_getset
        vectorcallfunc tp_vectorcall

    const unsigned long Py_TPFLAGS_HEAPTYPE
    PyTypeObject* Py_TYPE(object thing)
    void PyType_Modified(PyTypeObject* type)
    object PyUnicode_InternFromString(const char* text)
    Py_ssize_t PyVectorcall_NARGS(size_t n_arguments)
