# cython: overflowcheck=False
# Distances are modulo 2**64: positions that cannot be are too far apart.
"""Rings of records between processes. Own no memory; know no names and no event loop."""
cimport cython

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy
from pingora_c.lib.atomic cimport (
    __ATOMIC_ACQUIRE, __ATOMIC_RELEASE, __ATOMIC_SEQ_CST, __atomic_compare_exchange_n, __atomic_load_n,
    __atomic_store_n, __atomic_thread_fence,
)

RING_SLOTS = <int>SLOTS
RING_DATA_AT = <int>DATA_AT
DROPPED = 0
PUT_BEHIND = 1     # others that were not taken yet
PUT_FIRST = 2      # readers may be waiting


cdef inline uint64_t padded(uint64_t size) noexcept nogil:
    return (size + 7) & ~<uint64_t>7


@cython.final
cdef class RingSlots:
    """The ends of all rings, in writable memory of at least RING_DATA_AT bytes, aligned to 8.

    With a `capacity`, a power of two, the memory is new. Raises ValueError for memory that has no rings.
    """

    def __cinit__(self, memory, uint64_t capacity=0):
        PyObject_GetBuffer(memory, &self.view, PyBUF_WRITABLE)
        self.words = <uint64_t*>self.view.buf
        if self.view.len < <int>DATA_AT or <size_t>self.words % sizeof(uint64_t):
            raise ValueError(f"memory: expected {<int>DATA_AT} aligned bytes, got {self.view.len}")
        if capacity:
            self.words[<int>CAPACITY] = capacity
            self.words[0] = <uint64_t>MAGIC
        capacity = self.words[<int>CAPACITY]
        if self.words[0] != <uint64_t>MAGIC or capacity < 64 or capacity & (capacity - 1):
            raise ValueError("memory: there are no rings of this version")

    def __dealloc__(self):
        if self.view.buf != NULL:
            PyBuffer_Release(&self.view)

    cdef uint64_t* ends(self, int slot) except NULL:
        if not 0 <= slot < SLOTS:
            raise IndexError(f"slot {slot} is outside 0–{SLOTS - 1}")
        return self.words + <int>PAGE_WORDS + slot * <int>RING_WORDS

    @property
    def capacity(self):
        """The bytes of a ring."""
        return self.words[<int>CAPACITY]

    @property
    def n_used(self):
        """How many slots, from the first on, were ever owned."""
        return min(__atomic_load_n(&self.words[<int>N_USED], __ATOMIC_ACQUIRE), <uint64_t>SLOTS)

    def owner(self, int slot):
        """Return the process id that owns a slot, 0 if nobody does."""
        return self.ends(slot)[<int>OWNER]

    def waiting(self, int slot):
        """Return how many bytes of records of a slot were not taken yet."""
        cdef uint64_t* ends = self.ends(slot)
        return __atomic_load_n(&ends[<int>PUT], __ATOMIC_ACQUIRE) - __atomic_load_n(&ends[<int>TAKEN], __ATOMIC_ACQUIRE)

    def try_own(self, int slot, uint64_t before, uint64_t pid) -> bool:
        """Own a slot that `before` owned, who has ended or is 0; False if somebody else was faster."""
        cdef uint64_t used = __atomic_load_n(&self.words[<int>N_USED], __ATOMIC_ACQUIRE)
        cdef uint64_t* ends = self.ends(slot)
        if not __atomic_compare_exchange_n(&ends[<int>OWNER], &before, pid, False, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE):
            return False
        while used <= <uint64_t>slot and not __atomic_compare_exchange_n(
            &self.words[<int>N_USED], &used, <uint64_t>slot + 1, False, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE
        ):
            pass
        return True


@cython.final
cdef class SharedRing:
    """The ring of a slot, whose bytes are `data`, as many as a ring has."""

    def __cinit__(self, RingSlots slots not None, int slot, data):
        PyObject_GetBuffer(data, &self.view, PyBUF_WRITABLE)
        self.capacity = slots.capacity
        if <uint64_t>self.view.len < self.capacity:
            raise ValueError(f"data: expected {self.capacity} bytes, got {self.view.len}")
        self.slots = slots
        self.slot = slot
        self.words = slots.ends(slot)
        self.data = <char*>self.view.buf

    def __dealloc__(self):
        if self.view.buf != NULL:
            PyBuffer_Release(&self.view)

    cdef void copy_in(self, uint64_t at, const char* source, uint64_t size) noexcept nogil:
        cdef uint64_t start = at & (self.capacity - 1)
        cdef uint64_t first = self.capacity - start
        if first > size:
            first = size
        memcpy(self.data + start, source, first)
        memcpy(self.data, source + first, size - first)

    cdef void copy_out(self, uint64_t at, char* target, uint64_t size) noexcept nogil:
        cdef uint64_t start = at & (self.capacity - 1)
        cdef uint64_t first = self.capacity - start
        if first > size:
            first = size
        memcpy(target, self.data + start, first)
        memcpy(target + first, self.data, size - first)

    def put(self, record) -> int:
        """Put a record, for the owner: PUT_FIRST, PUT_BEHIND, or DROPPED if there is no room."""
        cdef Py_buffer view
        cdef uint64_t size, at = self.words[<int>PUT]
        PyObject_GetBuffer(record, &view, PyBUF_SIMPLE)
        try:
            size = <uint64_t>view.len
            if at + 8 + padded(size) - __atomic_load_n(&self.words[<int>TAKEN], __ATOMIC_ACQUIRE) > self.capacity:
                return DROPPED
            self.copy_in(at, <char*>&size, 8)
            self.copy_in(at + 8, <char*>view.buf, size)
        finally:
            PyBuffer_Release(&view)
        __atomic_store_n(&self.words[<int>PUT], at + 8 + padded(size), __ATOMIC_RELEASE)
        # A reader stores TAKEN, then looks at PUT: one of the two sees the other's.
        __atomic_thread_fence(__ATOMIC_SEQ_CST)
        return PUT_FIRST if __atomic_load_n(&self.words[<int>TAKEN], __ATOMIC_ACQUIRE) == at else PUT_BEHIND

    def peek(self, after=None):
        """Return the first record, or the one behind position `after`, and the position behind it.

        None if there is none. It stays until `take`. What cannot be a record is taken, all that is there.
        """
        cdef uint64_t taken, at, put, size
        cdef bytes record
        while True:
            taken = __atomic_load_n(&self.words[<int>TAKEN], __ATOMIC_ACQUIRE)
            put = __atomic_load_n(&self.words[<int>PUT], __ATOMIC_ACQUIRE)
            at = taken if after is None else after
            if at - taken > put - taken or put - taken > self.capacity:
                if put - taken > self.capacity:
                    self.take(taken, put)
                return None     # somebody else has taken what is before it
            if at == put:
                return None
            size = 0
            record = b""
            self.copy_out(at, <char*>&size, 8)
            if size > put - at - 8 or put - at < 8:
                size = <uint64_t>-1
            else:
                record = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
                self.copy_out(at + 8, PyBytes_AS_STRING(record), size)
            __atomic_thread_fence(__ATOMIC_ACQUIRE)
            if __atomic_load_n(&self.words[<int>TAKEN], __ATOMIC_ACQUIRE) != taken:
                continue        # it may have been overwritten meanwhile
            if size == <uint64_t>-1:
                self.take(taken, put)
                return None
            return record, at + 8 + padded(size)

    def take(self, uint64_t before, uint64_t behind) -> bool:
        """Take what is between two positions; False if somebody else has."""
        cdef bint is_ours = __atomic_compare_exchange_n(
            &self.words[<int>TAKEN], &before, behind, False, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE
        )
        __atomic_thread_fence(__ATOMIC_SEQ_CST)     # before PUT is looked at: as in `put`
        return is_ours

    @property
    def taken(self):
        """The position of the first record."""
        return __atomic_load_n(&self.words[<int>TAKEN], __ATOMIC_ACQUIRE)
