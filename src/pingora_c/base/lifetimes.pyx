"""Births and deaths of the core's objects, counted per class. Only debug and asan builds have it: no other pays.

A counted class gets slots of ours for its memory, tp_alloc and tp_free, through which every instance comes and goes
whoever makes it; these builds have no free lists that would pass them by. Owns the tallies; counts from the call of
`count` on, so classes are given before the first instance, and when all of them are made: one that is made later than
the counted class below it takes the slots that count for its own.
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


cdef Tally* tally_of(const PyTypeObject* type) noexcept:
    """The tally of a counted class, NULL of another."""
    cdef int i
    for i in range(n_tallies):
        if tallies[i].type == type:
            return &tallies[i]
    return NULL


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

    Raises OverflowError past the number of classes that there is room for, ValueError for one that was made too late.
    """
    global n_tallies
    cdef PyTypeObject* counted = <PyTypeObject*>kind
    cdef Tally* tally
    if not isinstance(kind, type):
        raise TypeError(f"expected a class, got {kind!r}")
    if counted.tp_flags & Py_TPFLAGS_HEAPTYPE:
        return False
    if tally_of(counted) != NULL:
        return True
    if n_tallies == CLASSES_MAX:
        raise OverflowError("more classes than there are tallies: raise CLASSES_MAX")
    if counted.tp_alloc == allocate_counted:
        raise ValueError(f"{kind!r} was made when the class below it was counted already")
    tally = &tallies[n_tallies]
    tally.type = counted
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
