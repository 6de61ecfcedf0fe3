"""Histograms, as far as they are read. Owns nothing."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

HISTOGRAM_SIZE = <int>HISTOGRAM_CELLS


cdef uint64_t bucket_floor(uint32_t bucket) noexcept nogil:
    cdef uint32_t power
    if bucket < 100:
        return bucket
    power = (bucket - 10) // 90 + 1
    return <uint64_t>(bucket - (power - 1) * 90) * pg_tens[power - 1]


def bucket_index(duration_us: int) -> int:
    """Return the bucket of a duration."""
    return bucket_of(duration_us)


def floor_of(bucket: int) -> int:
    """Return the least duration of a bucket, in microseconds. Raises IndexError."""
    if not 0 <= bucket < BUCKETS:
        raise IndexError(f"bucket {bucket} is outside 0–{BUCKETS - 1}")
    return bucket_floor(bucket)


def cumulated(cells, tuple borders) -> list[int]:
    """Return how many durations of a histogram are below each of `borders`, and last how many there are.

    `cells` are HISTOGRAM_SIZE words, `borders` numbers of buckets in rising order.
    """
    cdef Py_buffer view
    cdef uint64_t total = 0
    cdef uint32_t at = 0, border
    cdef list counted = []
    PyObject_GetBuffer(cells, &view, PyBUF_SIMPLE)
    try:
        if view.len != <int>HISTOGRAM_CELLS * <Py_ssize_t>sizeof(uint64_t):
            raise ValueError(f"cells: expected {HISTOGRAM_CELLS} words, got {view.len} bytes")
        for border in (*borders, BUCKETS):
            while at < border and at < BUCKETS:
                total += (<uint64_t*>view.buf)[at]
                at += 1
            counted.append(total)
    finally:
        PyBuffer_Release(&view)
    return counted
