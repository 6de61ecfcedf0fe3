"""Fields that Python hands in as pairs, as the head parser would give them: for tests and fuzzing, no part of the
proxy uses it.
"""
from libc.stdint cimport uint32_t
from pingora_c.http.field cimport Field


cdef class FieldTable:
    cdef bytes text          # names and values, what the rows count from
    cdef Field[80] rows
    cdef uint32_t n
