"""Reads of properties by a table. Owns the table, which only grows, while modules are imported."""
from cpython.object cimport PyObject_GenericGetAttr
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uintptr_t
from pingora_c.lib.type_slots cimport (
    Py_TYPE, PyGetSetDef, PyObject, PyType_Modified, PyTypeObject, PyUnicode_InternFromString, getter,
)

cdef enum:
    ROWS = 256             # a power of two
    ROWS_USED = 128        # at most: a free row ends each search

cdef struct Row:
    PyTypeObject* type     # NULL: a free row
    PyObject* name         # interned, so that its address tells it; kept for ever
    getter get
    void* closure

cdef Row[ROWS] rows
cdef int n_rows = 0


cdef inline size_t place(PyTypeObject* type, PyObject* name) noexcept:
    return ((<uintptr_t>name >> 4) ^ (<uintptr_t>type >> 5)) & (ROWS - 1)


cdef object read(object self, object name):
    cdef PyTypeObject* type = Py_TYPE(self)
    cdef size_t at = place(type, <PyObject*>name)
    while rows[at].type != NULL:
        if rows[at].name == <PyObject*>name and rows[at].type == type:
            return rows[at].get(self, rows[at].closure)
        at = (at + 1) & (ROWS - 1)
    return PyObject_GenericGetAttr(self, name)


cdef int read_by_table(object kind) except -1:
    cdef PyTypeObject* type = <PyTypeObject*>kind
    cdef PyGetSetDef* property = type.tp_getset
    while property != NULL and property.name != NULL:
        add_row(type, PyUnicode_InternFromString(property.name), property)
        property += 1
    type.tp_getattro = read
    PyType_Modified(type)
    return 0


cdef int add_row(PyTypeObject* type, object name, const PyGetSetDef* property) except -1:
    global n_rows
    cdef size_t at = place(type, <PyObject*>name)
    if n_rows == ROWS_USED:
        raise OverflowError("more properties than there are rows: raise ROWS")
    while rows[at].type != NULL:
        at = (at + 1) & (ROWS - 1)
    Py_INCREF(name)
    rows[at] = Row(type, <PyObject*>name, property.get, property.closure)
    n_rows += 1
    return 0
