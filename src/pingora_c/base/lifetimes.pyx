"""Births and deaths of the core's objects, counted per class. Only debug and asan builds have it: no other pays.

A counted class gets slots of ours for its memory, tp_alloc and tp_free, through which every instance comes and goes
whoever makes it; these builds have no free lists that would pass them by. A class that is made later than a counted one
below it has inherited those slots, and is counted as that until it is given itself. Owns the tallies; counts from the
call of `count` on, so classes are given before the first instance.
"""
from libc.stdint cimport int64_t
from pingora_c.lib.type_slots cimport Py_TPFLAGS_HEAPTYPE, PyObject, PyTypeObject, allocfunc, freefunc

cdef enum:
    CLASSES_MAX = 128

cdef struct Tally:
    PyTypeObject* type       # borrowed: types of extension modules live as long as the process
    allocfunc allocate       # what the slots held before
    freefunc release
    int64_t n_living

cdef Tally[CLASSES_MAX] tallies
cdef int n_tallies = 0


cdef Tally* own_tally(const PyTypeObject* type) noexcept:
    """The tally of a counted class, NULL of another."""
    cdef int i
    for i in range(n_tallies):
        if tallies[i].type == type:
            return &tallies[i]
    return NULL


cdef Tally* tally_of(const PyTypeObject* type) noexcept:
    """The tally of a class whose slots are ours, be it that of a class below it."""
    cdef Tally* tally = own_tally(type)
    while tally == NULL:
        type = type.tp_base
        tally = own_tally(type)
    return tally


cdef PyObject* allocate_counted(PyTypeObject* type, Py_ssize_t n_items) except NULL:
    cdef Tally* tally = tally_of(type)
    cdef PyObject* made = tally.allocate(type, n_items)
    tally.n_living += 1
    return made


cdef void release_counted(void* thing) noexcept:
    cdef Tally* tally = tally_of((<PyObject*>thing).ob_type)
    tally.n_living -= 1
    tally.release(thing)


def count(kind) -> bool:
    """Count the instances of an extension type from now on; return False for a class made in Python.

    Raises OverflowError past the number of classes that there is room for.
    """
    global n_tallies
    cdef PyTypeObject* counted = <PyTypeObject*>kind
    cdef Tally* tally
    cdef Tally* inherited
    if not isinstance(kind, type):
        raise TypeError(f"expected a class, got {kind!r}")
    if counted.tp_flags & Py_TPFLAGS_HEAPTYPE:
        return False
    if own_tally(counted) != NULL:
        return True
    if n_tallies == CLASSES_MAX:
        raise OverflowError("more classes than there are tallies: raise CLASSES_MAX")
    tally = &tallies[n_tallies]
    tally.type = counted
    if counted.tp_alloc == allocate_counted:
        inherited = tally_of(counted)
        tally.allocate = inherited.allocate
        tally.release = inherited.release
    else:
        tally.allocate = counted.tp_alloc
        tally.release = counted.tp_free
    tally.n_living = 0
    n_tallies += 1
    counted.tp_alloc = allocate_counted
    counted.tp_free = release_counted
    return True


def living() -> dict[str, int]:
    """Return how many instances of each counted class live: births less deaths."""
    cdef int i
    return {(<object>tallies[i].type).__name__: tallies[i].n_living for i in range(n_tallies)}
