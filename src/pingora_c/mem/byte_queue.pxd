"""Bytes that wait, first in, first out: a chain of pooled buffers, and of bytes objects that are kept, not copied.
Zeroed memory is an empty queue.

Invariants: size is the sum of end - at over the chain, held that of cap; no segment but the last is empty.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

cdef struct QueueSegment:
    QueueSegment* next
    char* start              # positions count from here: the segment itself, or what an object holds
    void* kept               # counted reference to that object; NULL: the bytes are the segment's own
    uint32_t at              # at < end; in a segment of its own bytes sizeof(QueueSegment) <= at and end <= cap
    uint32_t end
    uint32_t cap             # as the pool wants it back; 0 with an object

cdef struct ByteQueue:
    QueueSegment* first      # owned
    QueueSegment* last
    size_t size              # bytes in it
    size_t held              # of the pool's memory

# An empty segment with room for `size` bytes or BUFFER_LARGE with itself, whichever is less; NULL without memory.
cdef QueueSegment* segment_new(size_t size) noexcept nogil
# One of `size` bytes of `body` from `at` on, which it keeps alive. NULL without memory.
cdef QueueSegment* segment_keeping(bytes body, size_t at, uint32_t size) noexcept
cdef void segment_free(QueueSegment* segment) noexcept nogil
# At the end of the chain; an empty one is to be filled before anything else is pushed.
cdef void queue_append(ByteQueue* queue, QueueSegment* segment) noexcept nogil

# Copy `size` bytes to the end; 0, or -1 without memory (part of them may be in it: the queue is of no use any more).
cdef int queue_push(ByteQueue* queue, const char* data, size_t size) noexcept nogil
# The same for the first `size` bytes of `body`, which is kept until they are dropped.
cdef int queue_push_kept(ByteQueue* queue, bytes body, size_t size) noexcept
# The stretch at the front, `size[0]` > 0 bytes long, good until the next change; NULL if the queue is empty.
cdef const char* queue_front(const ByteQueue* queue, size_t* size) noexcept nogil
# Drop `size` <= queue.size bytes from the front.
cdef void queue_drop(ByteQueue* queue, size_t size) noexcept nogil
# Give the memory back; the queue is empty and can be used again.
cdef void queue_free(ByteQueue* queue) noexcept nogil
