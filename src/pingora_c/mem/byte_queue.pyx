"""Queues of bytes. Own pooled buffers and references to bytes objects; know neither who fills nor who empties them."""
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.ref cimport PyObject, Py_INCREF, Py_XDECREF
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from pingora_c.mem.buffer_pool cimport BUFFER_LARGE, BUFFER_SMALL, pool_give, try_pool_take

cdef enum:
    KEPT_MOST = 1073741824     # bytes of an object in one segment


cdef QueueSegment* segment_new(size_t size) noexcept nogil:
    cdef uint32_t cap
    cdef size_t whole = size + sizeof(QueueSegment)
    cdef QueueSegment* segment = <QueueSegment*>try_pool_take(whole if whole < BUFFER_LARGE else BUFFER_LARGE, &cap)
    if segment != NULL:
        segment.next = NULL
        segment.start = <char*>segment
        segment.kept = NULL
        segment.at = segment.end = sizeof(QueueSegment)
        segment.cap = cap
    return segment


cdef QueueSegment* segment_keeping(bytes body, size_t at, uint32_t size) noexcept:
    cdef QueueSegment* segment = <QueueSegment*>malloc(sizeof(QueueSegment))
    if segment != NULL:
        Py_INCREF(body)
        segment.next = NULL
        segment.start = PyBytes_AS_STRING(body) + at
        segment.kept = <void*>body
        segment.at = segment.cap = 0
        segment.end = size
    return segment


cdef void let_go(void* kept) noexcept with gil:
    Py_XDECREF(<PyObject*>kept)


cdef void segment_free(QueueSegment* segment) noexcept nogil:
    if segment.kept == NULL:
        pool_give(<char*>segment, segment.cap)
    else:
        let_go(segment.kept)
        free(segment)


cdef void queue_append(ByteQueue* queue, QueueSegment* segment) noexcept nogil:
    queue.held += segment.cap
    if queue.last == NULL:
        queue.first = segment
    else:
        queue.last.next = segment
    queue.last = segment


cdef QueueSegment* grow(ByteQueue* queue, size_t size) noexcept nogil:
    """A segment at the end of the chain: small for a queue that is, or the pool's memory would be held by crumbs."""
    cdef QueueSegment* segment
    if size + sizeof(QueueSegment) < queue.held // 4:
        size = queue.held // 4 - sizeof(QueueSegment)
    segment = segment_new(size if size + sizeof(QueueSegment) > BUFFER_SMALL else BUFFER_SMALL - sizeof(QueueSegment))
    if segment != NULL:
        queue_append(queue, segment)
    return segment


cdef int queue_push(ByteQueue* queue, const char* data, size_t size) noexcept nogil:
    cdef QueueSegment* segment
    cdef size_t part
    while size:
        segment = queue.last
        if segment == NULL or segment.end >= segment.cap:
            segment = grow(queue, size)
            if segment == NULL:
                return -1
        part = segment.cap - segment.end
        if part > size:
            part = size
        memcpy(segment.start + segment.end, data, part)
        segment.end += <uint32_t>part
        queue.size += part
        data += part
        size -= part
    return 0


cdef int queue_push_kept(ByteQueue* queue, bytes body, size_t size) noexcept:
    cdef QueueSegment* segment
    cdef size_t at = 0
    cdef uint32_t part
    while at < size:
        part = <uint32_t>min(size - at, <size_t>KEPT_MOST)
        segment = segment_keeping(body, at, part)
        if segment == NULL:
            return -1
        queue_append(queue, segment)
        queue.size += part
        at += part
    return 0


cdef const char* queue_front(const ByteQueue* queue, size_t* size) noexcept nogil:
    if queue.first == NULL:
        size[0] = 0
        return NULL
    size[0] = queue.first.end - queue.first.at
    return queue.first.start + queue.first.at


cdef void queue_drop(ByteQueue* queue, size_t size) noexcept nogil:
    cdef QueueSegment* segment
    cdef size_t part
    queue.size -= size
    while queue.first != NULL:
        segment = queue.first
        part = segment.end - segment.at
        if part > size:
            segment.at += <uint32_t>size
            return
        size -= part
        queue.first = segment.next
        if queue.first == NULL:
            queue.last = NULL
        queue.held -= segment.cap
        segment_free(segment)


cdef void queue_free(ByteQueue* queue) noexcept nogil:
    queue_drop(queue, queue.size)
