# cython: overflowcheck=False
# The debug build's check breaks Cython 3.3 on sums among the members of an enum.
"""The numbers of a worker, in a block as `layout` describes it. Whoever counts writes
`reactor.counted[REQUESTS] += 1`.
"""
from libc.stdint cimport uint32_t, uint64_t
from pingora_c.stats.layout cimport *


cdef class Counters:
    cdef uint64_t* cells       # by Counter
    cdef readonly uint64_t serial     # of this object, never used again in the process
    cdef uint64_t* words       # the block; `cells` is a part of it
    cdef Py_buffer block       # held while in use
    cdef dict found            # records by (kind, key): word of their first cell
    cdef list n_records        # by RecordKind
    # The cells of a record, a new one of zeros if there is none; good as long as this object. Without room, or with
    # MOST of `kind` in use, one that others get too.
    cdef uint64_t* record(self, int kind, bytes key, uint32_t n_cells) except NULL
    cdef int find(self, int kind, bytes key, uint32_t n_cells) except -1    # the word of its first cell
    cdef uint64_t add(self, int kind, bytes key, uint32_t n_cells) noexcept
