"""Selection by a hash of the key, Pingora's FNVHash: no ring, so a change of the set moves most keys."""
cimport cython
from pingora_c.upstream.select.weighted cimport Weighted


@cython.final
cdef class FnvHash(Weighted):
    pass
