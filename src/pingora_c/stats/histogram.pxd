"""Histograms of durations: log-linear buckets of two decimal digits.

A cell counts the durations of one bucket, in whole microseconds; bucket i begins at `bucket_floor(i)`. Below 100 µs a
bucket is 1 µs wide, above it a hundredth to a tenth of what it begins at, so that what is read from it is at most 10 %
off, and every number of two digits (0.25 s, 7.5 s) is the border of two buckets. The last one also has all beyond it.
"""
from libc.stdint cimport uint32_t, uint64_t
from pingora_c.lib.decimal cimport pg_power_of_ten, pg_tens

cdef enum:
    LONGEST_US = 4200000000
    BUCKETS = 763
    SUM = BUCKETS                  # the cell behind the buckets: microseconds of all
    HISTOGRAM_CELLS


cdef inline uint32_t bucket_of(uint64_t duration_us) noexcept nogil:
    cdef uint32_t us = <uint32_t>LONGEST_US if duration_us > LONGEST_US else <uint32_t>duration_us
    cdef uint32_t power
    if us < 100:
        return us
    power = pg_power_of_ten(us)
    return (power - 1) * 90 + us // pg_tens[power - 1]


cdef inline void observe(uint64_t* histogram, uint64_t duration_us) noexcept nogil:
    histogram[bucket_of(duration_us)] += 1
    histogram[<int>SUM] += duration_us


# The least duration of a bucket, in microseconds; 0 <= bucket < BUCKETS.
cdef uint64_t bucket_floor(uint32_t bucket) noexcept nogil
