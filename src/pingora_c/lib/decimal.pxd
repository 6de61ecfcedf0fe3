"""Powers of ten, from decimal.h."""
from libc.stdint cimport uint32_t

cdef extern from "decimal.h" nogil:
    const uint32_t* pg_tens                     # of 0 to 9
    uint32_t pg_power_of_ten(uint32_t n)        # the greatest i with pg_tens[i] <= n; n > 0
