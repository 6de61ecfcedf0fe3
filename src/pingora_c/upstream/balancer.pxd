"""A balancer: an endpoint set and a selection algorithm. Selection is asked for an endpoint given a key and what the session already tried."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.upstream.endpoint cimport Endpoint


cdef class Selection:
    """An algorithm over a fixed tuple of endpoints. Subclassed in select/; a Python subclass overrides `pick`."""
    cdef tuple endpoints               # of Endpoint, index == slot
    cdef int build(self, tuple endpoints) except -1   # (re)build the tables for a new set
    # The chosen endpoint, or None if peer_available says no to all. `key` may be NULL with size 0 (algorithms that hash then use an empty key).
    cdef Endpoint select(self, const char* key, size_t key_size, uint64_t tried)


cdef class Balancer:
    cdef readonly Selection selection
    cdef readonly tuple endpoints
    cdef Endpoint select_endpoint(self, const char* key, size_t key_size, uint64_t tried)   # None: none available
