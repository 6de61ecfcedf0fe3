"""Blocks of numbers as others read them: the supervisor, the agent, a successor. Owns nothing.

What a block says of itself is checked: its writer may be of another version, or have died in the middle.
"""
cimport cython

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t
from pingora_c.lib.atomic cimport __ATOMIC_ACQUIRE, __atomic_load_n
from pingora_c.stats.layout cimport (
    BLOCK_WORDS, CELLS_MOST, CONNECTIONS_OPEN, COUNTER_END, H2_CONNECTIONS_OPEN, HEADER_WORDS, KEY_BYTES_MOST,
    KIND_END, PID, RECORDS_AT, RECORDS_END, REQUESTS_ACTIVE, SAMPLED, SERVICE, SERVICE_ACTIVE, SERVICE_CELLS,
    SERVICE_OPEN, TCP_SESSIONS_ACTIVE, UPSTREAM, UPSTREAM_ACTIVE, UPSTREAM_CELLS, USED, USER_COUNTER, USER_GAUGE,
    USER_HISTOGRAM,
)
from pingora_c.stats.layout cimport FAMILY as _FAMILY

BLOCK_BYTES = <int>BLOCK_WORDS * sizeof(uint64_t)
COUNTERS_AT = <int>HEADER_WORDS
N_COUNTERS = <int>COUNTER_END
KINDS = {
    "service": <int>SERVICE, "upstream": <int>UPSTREAM, "family": <int>_FAMILY, "user_counter": <int>USER_COUNTER,
    "user_gauge": <int>USER_GAUGE, "user_histogram": <int>USER_HISTOGRAM,
}
CELLS = {"service": <int>SERVICE_CELLS, "upstream": <int>UPSTREAM_CELLS}


@cython.final
cdef class Block:
    """Memory of a block. Released when the object goes."""
    cdef Py_buffer view
    cdef uint64_t* words

    def __cinit__(self, memory, bint is_writable):
        cdef int flags = PyBUF_WRITABLE if is_writable else PyBUF_SIMPLE
        PyObject_GetBuffer(memory, &self.view, flags)
        self.words = <uint64_t*>self.view.buf
        if self.view.len < <Py_ssize_t>(BLOCK_WORDS * sizeof(uint64_t)):
            raise ValueError(f"block: expected {BLOCK_WORDS * sizeof(uint64_t)} bytes, got {self.view.len}")

    def __dealloc__(self):
        if self.view.buf != NULL:
            PyBuffer_Release(&self.view)

    cdef list records(self):
        cdef list found = []
        cdef uint64_t at = <uint64_t>RECORDS_AT, cells_at, size, n_cells, kind, end
        end = at + min(__atomic_load_n(&self.words[<int>USED], __ATOMIC_ACQUIRE), <uint64_t>(RECORDS_END - RECORDS_AT))
        while at + 2 <= end:
            kind = self.words[at] >> 32
            size = self.words[at] & 0xFFFFFFFF
            n_cells = self.words[at + 1]
            if kind == 0 or kind >= KIND_END or size > KEY_BYTES_MOST or n_cells > CELLS_MOST:
                break
            cells_at = at + 2 + (size + 7) // 8
            if cells_at + n_cells > end:
                break
            found.append((kind, (<char*>&self.words[at + 2])[:size], cells_at, n_cells))
            at = cells_at + n_cells
        return found


def records_of(memory) -> list[tuple[int, bytes, int, int]]:
    """Return the records of a block: kind, key, the word of its first cell, number of cells."""
    return Block(memory, False).records()


def end_gauges(memory) -> None:
    """Take out of a block what was true only while its process lived. For whoever has seen its end."""
    cdef Block block = Block(memory, True)
    cdef uint64_t at
    cdef uint64_t* words = block.words
    cdef int i
    words[<int>PID] = 0
    words[<int>HEADER_WORDS + <int>CONNECTIONS_OPEN] = words[<int>HEADER_WORDS + <int>REQUESTS_ACTIVE] = 0
    words[<int>HEADER_WORDS + <int>TCP_SESSIONS_ACTIVE] = words[<int>HEADER_WORDS + <int>H2_CONNECTIONS_OPEN] = 0
    for i in range(<int>SAMPLED, <int>COUNTER_END):
        words[<int>HEADER_WORDS + i] = 0
    for kind, _, first, _ in block.records():
        at = first
        if kind == <int>SERVICE:
            words[at + <int>SERVICE_OPEN] = words[at + <int>SERVICE_ACTIVE] = 0
        elif kind == <int>UPSTREAM:
            words[at + <int>UPSTREAM_ACTIVE] = 0
        elif kind == <int>USER_GAUGE:
            (<double*>&words[at])[0] = float("nan")
