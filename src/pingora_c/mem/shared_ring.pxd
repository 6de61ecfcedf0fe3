"""Rings of records in memory that several processes share: one process writes to a ring, others read from it.

    page | ends of the ring of each slot | bytes of each slot

The page: MAGIC, bytes of a ring, number of slots that were ever used. The ends of a ring, RING_WORDS: its owner, and in
cache lines of their own what was put and what was taken, bytes since the beginning. A record is a word with its size
and its bytes, filled up to whole words; it may run over the end to the beginning.

    taken <= put <= taken + capacity

Only the owner puts: bytes first, then `put`, so a writer that dies in the middle leaves nothing behind, and whoever
owns the slot next goes on. Readers copy a record, then look whether it is still there, and take it by
compare-and-swap: a reader that dies in the middle has taken nothing, and two get a record both rather than none.
Nobody waits for anybody. What the memory says is checked: whoever wrote it may be of any kind.
"""
cimport cython
from libc.stdint cimport uint64_t

cdef enum:
    MAGIC = 0x70696E676F727201     # "pingorr" and the version of this layout
    CAPACITY = 1                   # words of the page
    N_USED = 2
    PAGE_WORDS = 512
    OWNER = 0                      # words of the ends: a process id, 0: nobody
    PUT = 8
    TAKEN = 16
    RING_WORDS = 24
    SLOTS = 1024
    DATA_AT = 200704               # (PAGE_WORDS + SLOTS * RING_WORDS) * 8, a multiple of 4096


@cython.final
cdef class RingSlots:
    """The page and the ends of all rings. Holds the memory that it was given."""
    cdef Py_buffer view
    cdef uint64_t* words

    cdef uint64_t* ends(self, int slot) except NULL


@cython.final
cdef class SharedRing:
    """The ring of one slot. Holds the memory of both."""
    cdef RingSlots slots
    cdef Py_buffer view
    cdef char* data
    cdef uint64_t* words           # its ends
    cdef uint64_t capacity         # bytes, a power of two
    cdef readonly int slot

    cdef void copy_in(self, uint64_t at, const char* source, uint64_t size) noexcept nogil
    cdef void copy_out(self, uint64_t at, char* target, uint64_t size) noexcept nogil
