"""Durations of a session, as hooks see them."""
cimport cython
from libc.stdint cimport uint64_t

# Moments on the monotonic clock in microseconds, 0 for what has not happened; `hooks_us` is a duration.
cdef struct Moments:
    uint64_t started_us
    uint64_t head_us
    uint64_t connect_at_us
    uint64_t connected_us
    uint64_t first_byte_us
    uint64_t ended_us
    uint64_t hooks_us


@cython.final
cdef class Timings:
    cdef readonly double head_ms
    cdef readonly double connect_ms
    cdef readonly double first_byte_ms
    cdef readonly double total_ms
    cdef readonly double hooks_ms

    @staticmethod
    cdef Timings of(const Moments* moments)
