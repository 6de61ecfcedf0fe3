"""A stretch of bytes inside a buffer, kept as offsets so that the buffer may move."""
from libc.stdint cimport uint32_t

cdef struct Span:
    uint32_t at    # offset of the first byte from the buffer's start
    uint32_t size  # bytes; at + size <= the buffer's used length
