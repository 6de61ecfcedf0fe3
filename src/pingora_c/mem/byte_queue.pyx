"""Queues of bytes. Own pooled buffers; know neither who fills nor who empties them."""
from libc.string cimport memcpy
from pingora_c.mem.buffer_pool cimport BUFFER_LARGE, BUFFER_SMALL, pool_give, try_pool_take


cdef QueueSegment* new_segment(ByteQueue* queue, size_t size) noexcept nogil:
    """A segment at the end of the chain: small for a queue that is, or the pool's memory would be held by crumbs."""
    cdef uint32_t cap
    cdef size_t whole = size + sizeof(QueueSegment)
    cdef QueueSegment* segment
    if whole < queue.size:
        whole = queue.size
    if whole > BUFFER_LARGE:
        whole = BUFFER_LARGE
    segment = <QueueSegment*>try_pool_take(whole if whole > BUFFER_SMALL else BUFFER_SMALL, &cap)
    if segment == NULL:
        return NULL
    segment.next = NULL
    segment.at = segment.end = sizeof(QueueSegment)
    segment.cap = cap
    if queue.last == NULL:
        queue.first = segment
    else:
        queue.last.next = segment
    queue.last = segment
    return segment


cdef int queue_push(ByteQueue* queue, const char* data, size_t size) noexcept nogil:
    cdef QueueSegment* segment
    cdef size_t part
    while size:
        segment = queue.last
        if segment == NULL or segment.end == segment.cap:
            segment = new_segment(queue, size)
            if segment == NULL:
                return -1
        part = segment.cap - segment.end
        if part > size:
            part = size
        memcpy(<char*>segment + segment.end, data, part)
        segment.end += <uint32_t>part
        queue.size += part
        data += part
        size -= part
    return 0


cdef const char* queue_front(const ByteQueue* queue, size_t* size) noexcept nogil:
    if queue.first == NULL:
        size[0] = 0
        return NULL
    size[0] = queue.first.end - queue.first.at
    return <const char*>queue.first + queue.first.at


cdef void queue_drop(ByteQueue* queue, size_t size) noexcept nogil:
    cdef QueueSegment* segment
    cdef size_t part
    queue.size -= size
    while size:
        segment = queue.first
        part = segment.end - segment.at
        if part > size:
            segment.at += <uint32_t>size
            return
        size -= part
        queue.first = segment.next
        if queue.first == NULL:
            queue.last = NULL
        pool_give(<char*>segment, segment.cap)


cdef void queue_free(ByteQueue* queue) noexcept nogil:
    queue_drop(queue, queue.size)
