"""Counters. Own their memory unless it was given; know no names."""
cimport cython

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport calloc, free

COUNTER_BYTES = <int>COUNTER_END * sizeof(uint64_t)


@cython.final
cdef class Counters:
    """The counters of a worker.

    `block` is writable memory of COUNTER_BYTES or more, aligned to 8 bytes, whose numbers are continued; without it
    they begin at zero in memory of their own. Raises ValueError for a block that is too small or not aligned.
    """

    def __cinit__(self, block=None):
        if block is None:
            self.cells = self.own = <uint64_t*>calloc(<int>COUNTER_END, sizeof(uint64_t))
            if self.own == NULL:
                raise MemoryError
            return
        PyObject_GetBuffer(block, &self.block, PyBUF_WRITABLE)
        self.cells = <uint64_t*>self.block.buf
        if self.block.len < COUNTER_BYTES or <size_t>self.cells % sizeof(uint64_t):
            raise ValueError(f"block: expected {COUNTER_BYTES} aligned bytes, got {self.block.len}")

    def __dealloc__(self):
        free(self.own)
        if self.block.buf != NULL:
            PyBuffer_Release(&self.block)

    def values(self):
        """Return all numbers, in the order of COUNTER_NAMES."""
        cdef int i
        return [self.cells[i] for i in range(<int>COUNTER_END)]

    def count_blocked_loop(self):
        """Count that the loop was blocked; the watchdog's thread calls it and holds the GIL."""
        self.cells[<int>LOOP_BLOCKED] += 1
