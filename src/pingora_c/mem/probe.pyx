"""A byte queue as a Python object, for tests. No part of the proxy uses it."""
cimport cython

from libc.stddef cimport size_t
from libc.string cimport memset
from pingora_c.mem.byte_queue cimport (
    ByteQueue, QueueSegment, queue_drop, queue_free, queue_front, queue_push, queue_push_kept,
)


@cython.final
cdef class QueueProbe:
    """A queue, empty at first."""
    cdef ByteQueue queue

    def __cinit__(self):
        memset(&self.queue, 0, sizeof(ByteQueue))

    def __dealloc__(self):
        queue_free(&self.queue)

    def push(self, bytes data not None):
        """Copy `data` to the end. Raises MemoryError if the pool refuses."""
        if queue_push(&self.queue, data, <size_t>len(data)) < 0:
            raise MemoryError("the pool refused a segment")

    def push_kept(self, bytes body not None, size_t size):
        """Put the first `size` bytes of `body` at the end without a copy."""
        if size > <size_t>len(body):
            raise ValueError(f"{size} bytes of {len(body)}")
        if queue_push_kept(&self.queue, body, size) < 0:
            raise MemoryError

    def front(self):
        """Return a copy of the stretch at the front, empty if there is none."""
        cdef size_t size
        cdef const char* data = queue_front(&self.queue, &size)
        return b"" if data == NULL else data[:size]

    def drop(self, size_t size):
        """Drop bytes from the front."""
        if size > self.queue.size:
            raise ValueError(f"{size} bytes of {self.queue.size}")
        queue_drop(&self.queue, size)

    def free(self):
        """Give the memory back."""
        queue_free(&self.queue)

    @property
    def size(self):
        """Bytes in it."""
        return self.queue.size

    @property
    def held(self):
        """Bytes of the pool's memory."""
        return self.queue.held

    def segments(self):
        """Return (bytes that wait, capacity) of each, from the front; the capacity is 0 for an object that is kept."""
        cdef QueueSegment* segment = self.queue.first
        cdef list found = []
        while segment != NULL:
            found.append((segment.end - segment.at, segment.cap))
            segment = segment.next
        return found
