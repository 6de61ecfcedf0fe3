"""Counters. Know no names; own their memory unless it was given."""
cimport cython

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcpy
from pingora_c.lib.atomic cimport __ATOMIC_RELEASE, __atomic_store_n
from pingora_c.lib.unistd cimport getpid
from pingora_c.stats.histogram cimport HISTOGRAM_CELLS

import mmap

from pingora_c.stats.reading import records_of

BLOCK_BYTES = <int>BLOCK_WORDS * sizeof(uint64_t)
# Goes up with every change of what a block means; and with every new counter it is another one.
LAYOUT_NOW = (1 << 32) | <int>COUNTER_END
# By kind; beyond them one record, whose key is REST, has the numbers of all others.
MOST = {<int>SERVICE: 64, <int>UPSTREAM: 256}
REST = b"_rest"

cdef uint64_t last_serial = 0


cdef int checked(int word) except -1:
    if not RECORDS_AT <= word < BLOCK_WORDS:
        raise IndexError(f"word {word} is outside the records")
    return word


@cython.final
cdef class Counters:
    """The numbers of a process that serves.

    `block` is writable memory of BLOCK_BYTES, aligned to 8 bytes, whose numbers are continued; without it they begin at
    zero in memory of their own. Raises ValueError for a block that does not fit, or that another version has written.
    """

    def __cinit__(self, block=None):
        global last_serial
        if SERVICE_HOOKS - SERVICE_TIME != HISTOGRAM_CELLS or UPSTREAM_FIRST_BYTE - UPSTREAM_CONNECT != HISTOGRAM_CELLS:
            raise ImportError("the cells of a histogram are not as many as they were")
        if block is None:
            block = mmap.mmap(-1, BLOCK_BYTES)
        PyObject_GetBuffer(block, &self.block, PyBUF_WRITABLE)
        self.words = <uint64_t*>self.block.buf
        if self.block.len < BLOCK_BYTES or <size_t>self.words % sizeof(uint64_t):
            raise ValueError(f"block: expected {BLOCK_BYTES} aligned bytes, got {self.block.len}")
        if self.words[<int>LAYOUT] not in (0, LAYOUT_NOW):
            raise ValueError("block: another version has written it")
        last_serial += 1
        self.serial = last_serial
        self.cells = self.words + <int>HEADER_WORDS
        self.n_records = [0] * <int>KIND_END
        self.found = {}
        for kind, key, at, _ in records_of(block):
            self.found[kind, key] = at
            self.n_records[kind] += 1
        self.words[<int>LAYOUT] = LAYOUT_NOW
        self.words[<int>PID] = getpid()

    def __dealloc__(self):
        if self.block.buf != NULL:
            PyBuffer_Release(&self.block)

    cdef uint64_t* record(self, int kind, bytes key, uint32_t n_cells) except NULL:
        return self.words + self.find(kind, key, n_cells)

    cdef int find(self, int kind, bytes key, uint32_t n_cells) except -1:
        if (kind, key) in self.found:
            return self.found[kind, key]
        if n_cells > CELLS_MOST or PyBytes_GET_SIZE(key) > KEY_BYTES_MOST:
            limits = f"at most {CELLS_MOST} and {KEY_BYTES_MOST}"
            raise ValueError(f"record: {n_cells} cells, a key of {len(key)} bytes; {limits}")
        if key != <bytes>REST and self.n_records[kind] >= MOST.get(kind, BLOCK_WORDS):
            return self.find(kind, REST, n_cells)
        cdef int at = <int>self.add(kind, key, n_cells)
        if at == 0:
            self.words[<int>DROPPED] += 1
            return <int>RECORDS_END
        self.found[kind, key] = at
        self.n_records[kind] += 1
        return at

    cdef uint64_t add(self, int kind, bytes key, uint32_t n_cells) noexcept:
        """Append a record; the word of its first cell, 0 if there is no room."""
        cdef uint64_t size = <uint64_t>PyBytes_GET_SIZE(key)
        cdef uint64_t at = <uint64_t>RECORDS_AT + self.words[<int>USED]
        cdef uint64_t cells_at = at + 2 + (size + 7) // 8
        if cells_at + n_cells > <uint64_t>RECORDS_END:
            return 0
        self.words[at] = (<uint64_t>kind << 32) | size
        self.words[at + 1] = n_cells
        memcpy(&self.words[at + 2], PyBytes_AS_STRING(key), size)
        __atomic_store_n(&self.words[<int>USED], cells_at + n_cells - <uint64_t>RECORDS_AT, __ATOMIC_RELEASE)
        return cells_at

    def record_at(self, int kind, bytes key not None, int n_cells) -> int:
        """Return the word of the first cell of a record, which is made if it is not there."""
        return self.find(kind, key, n_cells)

    def add_double(self, int word, double amount):
        """Add to a cell that is a double; NaN counts as 0."""
        cdef double* cell = <double*>&self.words[checked(word)]
        cell[0] = amount if cell[0] != cell[0] else cell[0] + amount

    def set_double(self, int word, double value):
        """Set a cell that is a double."""
        (<double*>&self.words[checked(word)])[0] = value

    def absorb(self, block) -> None:
        """Add what another block of this version has counted, whose process has ended."""
        cdef Py_buffer other
        cdef uint64_t* theirs
        cdef uint64_t* ours
        cdef int i, n
        PyObject_GetBuffer(block, &other, PyBUF_SIMPLE)
        try:
            if other.len < BLOCK_BYTES:
                raise ValueError(f"block: expected {BLOCK_BYTES} bytes, got {other.len}")
            theirs = <uint64_t*>other.buf
            for i in range(<int>SAMPLED):
                if i not in (CONNECTIONS_OPEN, REQUESTS_ACTIVE, TCP_SESSIONS_ACTIVE, H2_CONNECTIONS_OPEN):
                    self.cells[i] += theirs[<int>HEADER_WORDS + i]
            self.words[<int>DROPPED] += theirs[<int>DROPPED]
            for kind, key, at, size in records_of(block):
                n = size
                theirs = <uint64_t*>other.buf + <int>at
                ours = self.record(kind, key, n)
                for i in range(n):
                    if kind == <int>SERVICE or kind == <int>UPSTREAM:
                        ours[i] += theirs[i]
                    elif kind != <int>USER_GAUGE:
                        (<double*>ours)[i] += (<double*>theirs)[i]
        finally:
            PyBuffer_Release(&other)

    def values(self):
        """Return the numbers of all counters, in the order of COUNTER_NAMES."""
        cdef int i
        return [self.cells[i] for i in range(<int>COUNTER_END)]

    def value(self, int counter):
        """Return the number of one counter, by its place in COUNTER_NAMES."""
        if not 0 <= counter < <int>COUNTER_END:
            raise IndexError(f"counter {counter} is outside 0–{<int>COUNTER_END - 1}")
        return self.cells[counter]

    def sample(self, uint64_t buffers_held, uint64_t upstream_idle):
        """Note what is looked at now and then: bytes of buffers, connections in the pools."""
        self.cells[<int>BUFFERS_HELD] = buffers_held
        self.cells[<int>UPSTREAM_IDLE] = upstream_idle

    def count_blocked_loop(self):
        """Count that the loop was blocked; the watchdog's thread calls it and holds the GIL."""
        self.cells[<int>LOOP_BLOCKED] += 1

    @property
    def memory(self):
        """The whole block, for who reads it in this process."""
        return self.block.obj
