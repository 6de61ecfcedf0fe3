"""Numbers of endpoints by weight. Owns the table; subclasses choose the number."""
from cpython.mem cimport PyMem_Free, PyMem_Malloc

from pingora_c.upstream.endpoint cimport Endpoint

cdef enum:
    TOTAL_MAX = 0x7FFFFFFF


cdef class Weighted(Selection):
    """Base of `Random` and `FnvHash`."""

    def __dealloc__(self):
        PyMem_Free(self.ends)

    cdef int build(self, tuple endpoints) except -1:
        cdef uint64_t total = 0
        cdef uint32_t* ends
        cdef Endpoint endpoint
        for endpoint in endpoints:
            total += endpoint.weight
        if total > TOTAL_MAX:
            raise ValueError(f"the sum of weights is {total}, at most {<int>TOTAL_MAX} can be told apart")
        ends = <uint32_t*>PyMem_Malloc(len(endpoints) * sizeof(uint32_t))
        if ends == NULL:
            raise MemoryError
        total = 0
        for endpoint in endpoints:
            total += endpoint.weight
            ends[endpoint.slot] = <uint32_t>total
        PyMem_Free(self.ends)
        self.ends = ends
        self.n = <uint32_t>len(endpoints)
        self.total = <uint32_t>total
        self.endpoints = endpoints
        return 0

    cdef uint32_t slot_of(self, uint32_t number) noexcept:
        cdef uint32_t low = 0, middle
        cdef uint32_t high = self.n - 1
        while low < high:
            middle = low + (high - low) // 2
            if number < self.ends[middle]:
                high = middle
            else:
                low = middle + 1
        return low
