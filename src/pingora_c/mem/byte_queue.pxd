"""Bytes that wait, first in, first out: a chain of pooled buffers. Zeroed memory is an empty queue.

Invariant: size is the sum of end - at over the chain; no segment of the chain is empty.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

cdef struct QueueSegment:
    QueueSegment* next
    uint32_t at              # sizeof(QueueSegment) <= at < end <= cap
    uint32_t end
    uint32_t cap             # as the pool wants it back

cdef struct ByteQueue:
    QueueSegment* first      # owned
    QueueSegment* last
    size_t size              # bytes in it

# Copy `size` bytes to the end; 0, or -1 without memory (part of them may be in it: the queue is of no use any more).
cdef int queue_push(ByteQueue* queue, const char* data, size_t size) noexcept nogil
# The stretch at the front, `size[0]` > 0 bytes long, good until the next change; NULL if the queue is empty.
cdef const char* queue_front(const ByteQueue* queue, size_t* size) noexcept nogil
# Drop `size` <= queue.size bytes from the front.
cdef void queue_drop(ByteQueue* queue, size_t size) noexcept nogil
# Give the memory back; the queue is empty and can be used again.
cdef void queue_free(ByteQueue* queue) noexcept nogil
