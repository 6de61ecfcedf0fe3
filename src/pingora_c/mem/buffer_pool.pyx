"""The worker's pool of byte buffers: slabs cut into three classes, a free list per class.

Owns the slabs. Never zeroes a buffer, never calls Python from the functions of the core, never blocks but for mmap
and munmap.

A slab is a stretch of equal strides, each a buffer and a red zone of one cache line:

    base | buffer | red zone | buffer | red zone | … | rest, unused

The red zone moves the buffers' starts over the sets of the first-level cache (with a stride of 4096 the first lines
of all heads would share one set), and
under AddressSanitizer running over a buffer's end is reported. Slabs are cut lazily: a buffer that was never lent is
not touched.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, realloc
from libc.string cimport memcpy, memmove, memset
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap

from pingora_c.lib.sanitize cimport PG_ASAN, PG_DEBUG, PG_POISON, PG_UNPOISON

cdef enum:
    SLAB_BYTES = 1048576
    RED_ZONE = 64
    GIVEN_BYTE = 0xDD          # what a given buffer is filled with in checked builds

cdef uint64_t GUARD_LENT = 0x746E656C5F67705F    # in the red zone of a lent buffer, in debug builds

cdef struct FreeBuffer:
    FreeBuffer* next

cdef struct Shelf:             # the buffers of one class that are not lent
    FreeBuffer* free           # given back, last in first out: the next one is likely in the cache
    char* cut_at               # next buffer that was never lent, in the newest slab of the class
    uint32_t uncut             # how many of these there are

cdef struct Slab:
    char* base                 # owned
    uint32_t buffer_class
    uint32_t n_free            # counted by pool_trim

cdef Shelf[BUFFER_CLASSES] shelves
cdef PoolStats stats_now
cdef Slab* slabs = NULL        # owned, ordered by base
cdef uint32_t n_slabs = 0
cdef uint32_t room_for_slabs = 0

memset(&stats_now, 0, sizeof(stats_now))
memset(shelves, 0, sizeof(shelves))
stats_now.limit_bytes = 256 * 1048576


cdef inline uint32_t capacity_of(int buffer_class) noexcept nogil:
    return <uint32_t>BUFFER_SMALL << (2 * buffer_class)


cdef inline int class_of(size_t size) noexcept nogil:
    """The smallest class that holds `size` bytes, -1 if none."""
    if size <= BUFFER_SMALL:
        return 0
    if size <= BUFFER_MEDIUM:
        return 1
    if size <= BUFFER_LARGE:
        return 2
    return -1


cdef inline uint32_t stride_of(int buffer_class) noexcept nogil:
    return capacity_of(buffer_class) + RED_ZONE


cdef inline uint32_t buffers_per_slab(int buffer_class) noexcept nogil:
    return SLAB_BYTES // stride_of(buffer_class)


cdef void die(const char* what) noexcept nogil:
    """End the process: whose memory this is cannot be known any more."""
    fprintf(stderr, "pingora: buffer pool: %s\n", what)
    abort()


cdef bint add_slab(int buffer_class) noexcept nogil:
    """Get a slab and make it the one its shelf cuts from. False if the system has no memory."""
    global slabs, n_slabs, room_for_slabs
    cdef Slab* grown
    cdef char* base
    cdef uint32_t i = n_slabs
    if n_slabs == room_for_slabs:
        grown = <Slab*>realloc(slabs, (room_for_slabs + 64) * sizeof(Slab))
        if grown == NULL:
            return False
        slabs = grown
        room_for_slabs += 64
    base = <char*>mmap(NULL, SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if base == <char*>MAP_FAILED:
        return False
    PG_POISON(base, SLAB_BYTES)
    while i > 0 and slabs[i - 1].base > base:
        slabs[i] = slabs[i - 1]
        i -= 1
    slabs[i].base = base
    slabs[i].buffer_class = buffer_class
    n_slabs += 1
    shelves[buffer_class].cut_at = base
    shelves[buffer_class].uncut = buffers_per_slab(buffer_class)
    stats_now.slab_bytes += SLAB_BYTES
    stats_now.free[buffer_class] += buffers_per_slab(buffer_class)
    return True


cdef char* cut_buffer(int buffer_class) noexcept nogil:
    """Take a buffer that was never lent, from a new slab if need be. NULL if the system has no memory."""
    cdef Shelf* shelf = &shelves[buffer_class]
    cdef char* data
    if shelf.uncut == 0:
        if stats_now.slab_bytes >= stats_now.limit_bytes:
            pool_trim()    # other classes may hold what was lent in their size before
        if not add_slab(buffer_class):
            return NULL
    data = shelf.cut_at
    shelf.cut_at += stride_of(buffer_class)
    shelf.uncut -= 1
    return data


cdef void mark_lent(char* data, uint32_t capacity) noexcept nogil:
    PG_UNPOISON(data, capacity)
    if PG_DEBUG and not PG_ASAN:
        memcpy(data + capacity, &GUARD_LENT, sizeof(GUARD_LENT))


cdef void mark_given(char* data, uint32_t capacity) noexcept nogil:
    """In checked builds: find a second give and an overrun, and make use after this visible."""
    if PG_DEBUG and not PG_ASAN:
        if guard_broken(data + capacity):
            die("a buffer was given twice, or written past its end")
        memset(data + capacity, GIVEN_BYTE, sizeof(GUARD_LENT))
    if PG_DEBUG:
        memset(data, GIVEN_BYTE, capacity)


cdef bint guard_broken(const char* at) noexcept nogil:
    cdef uint64_t found
    memcpy(&found, at, sizeof(found))
    return found != GUARD_LENT


cdef char* try_pool_take(size_t size, uint32_t* cap) noexcept nogil:
    cdef int buffer_class = class_of(size)
    cdef uint32_t capacity
    cdef FreeBuffer* buffer
    cdef char* data
    if buffer_class < 0:
        stats_now.refused += 1
        return NULL
    capacity = capacity_of(buffer_class)
    if pool_held() + capacity > stats_now.limit_bytes:
        stats_now.refused += 1
        return NULL
    buffer = shelves[buffer_class].free
    if buffer != NULL:
        data = <char*>buffer
        mark_lent(data, capacity)
        shelves[buffer_class].free = buffer.next
    else:
        data = cut_buffer(buffer_class)
        if data == NULL:
            stats_now.refused += 1
            return NULL
        mark_lent(data, capacity)
    stats_now.taken += 1
    stats_now.lent[buffer_class] += 1
    stats_now.free[buffer_class] -= 1
    stats_now.lent_bytes += capacity
    if stats_now.lent_bytes > stats_now.peak_bytes:
        stats_now.peak_bytes = stats_now.lent_bytes
    cap[0] = capacity
    return data


cdef void pool_give(char* data, uint32_t cap) noexcept nogil:
    cdef int buffer_class = class_of(cap)
    cdef FreeBuffer* buffer = <FreeBuffer*>data
    if buffer_class < 0 or capacity_of(buffer_class) != cap:
        die("a buffer was given with a capacity that no buffer has")
    mark_given(data, cap)
    buffer.next = shelves[buffer_class].free
    shelves[buffer_class].free = buffer
    PG_POISON(data, cap)
    stats_now.lent[buffer_class] -= 1
    stats_now.free[buffer_class] += 1
    stats_now.lent_bytes -= cap


cdef bint pool_reserve(size_t size) noexcept nogil:
    if pool_held() + size > stats_now.limit_bytes:
        stats_now.refused += 1
        return False
    stats_now.reserved_bytes += size
    return True


cdef void pool_release(size_t size) noexcept nogil:
    stats_now.reserved_bytes -= size


cdef uint64_t pool_held() noexcept nogil:
    return stats_now.lent_bytes + stats_now.reserved_bytes


cdef void pool_set_limit(uint64_t limit_bytes) noexcept nogil:
    stats_now.limit_bytes = limit_bytes


cdef const PoolStats* pool_stats() noexcept nogil:
    return &stats_now


cdef Slab* slab_of(const char* data) noexcept nogil:
    """The slab that `data` was cut from: the last one that starts at or before it."""
    cdef uint32_t low = 0, high = n_slabs, middle
    while high - low > 1:
        middle = (low + high) // 2
        if slabs[middle].base <= data:
            low = middle
        else:
            high = middle
    return &slabs[low]


cdef FreeBuffer* next_free(FreeBuffer* buffer, FreeBuffer* new_next, bint relink) noexcept nogil:
    """Read the link of a free buffer, and set it if `relink`."""
    cdef FreeBuffer* found
    PG_UNPOISON(buffer, sizeof(FreeBuffer))
    found = buffer.next
    if relink:
        buffer.next = new_next
    PG_POISON(buffer, sizeof(FreeBuffer))
    return found


cdef bint is_unused(const Slab* slab) noexcept nogil:
    return slab.n_free == buffers_per_slab(slab.buffer_class)


cdef void count_free_buffers() noexcept nogil:
    """Set n_free of every slab."""
    cdef uint32_t i
    cdef int c
    cdef FreeBuffer* buffer
    for i in range(n_slabs):
        slabs[i].n_free = 0
    for c in range(BUFFER_CLASSES):
        if shelves[c].uncut:
            slab_of(shelves[c].cut_at).n_free += shelves[c].uncut
        buffer = shelves[c].free
        while buffer != NULL:
            slab_of(<char*>buffer).n_free += 1
            buffer = next_free(buffer, NULL, False)


cdef void forget_unused_slabs(int buffer_class) noexcept nogil:
    """Take the buffers of unused slabs off the shelf of this class."""
    cdef Shelf* shelf = &shelves[buffer_class]
    cdef FreeBuffer* buffer = shelf.free
    cdef FreeBuffer* kept = NULL
    cdef FreeBuffer* following
    while buffer != NULL:
        if is_unused(slab_of(<char*>buffer)):
            buffer = next_free(buffer, NULL, False)
        else:
            following = next_free(buffer, kept, True)
            kept = buffer
            buffer = following
    shelf.free = kept
    if shelf.uncut and is_unused(slab_of(shelf.cut_at)):
        shelf.uncut = 0


cdef uint64_t pool_trim() noexcept nogil:
    global n_slabs
    cdef uint32_t i = 0
    cdef uint64_t given_bytes = 0
    cdef int c
    if n_slabs == 0:
        return 0
    count_free_buffers()
    for c in range(BUFFER_CLASSES):
        forget_unused_slabs(c)
    while i < n_slabs:
        if not is_unused(&slabs[i]):
            i += 1
            continue
        stats_now.free[slabs[i].buffer_class] -= slabs[i].n_free
        PG_UNPOISON(slabs[i].base, SLAB_BYTES)
        munmap(slabs[i].base, SLAB_BYTES)
        n_slabs -= 1
        memmove(&slabs[i], &slabs[i + 1], (n_slabs - i) * sizeof(Slab))
        given_bytes += SLAB_BYTES
    stats_now.slab_bytes -= given_bytes
    return given_bytes


def stats():
    """Return the pool's counters; `lent` and `free` by buffer capacity in bytes."""
    cdef int c
    return {
        "limit_bytes": stats_now.limit_bytes,
        "slab_bytes": stats_now.slab_bytes,
        "lent_bytes": stats_now.lent_bytes,
        "reserved_bytes": stats_now.reserved_bytes,
        "taken": stats_now.taken,
        "refused": stats_now.refused,
        "lent": {capacity_of(c): stats_now.lent[c] for c in range(BUFFER_CLASSES)},
        "free": {capacity_of(c): stats_now.free[c] for c in range(BUFFER_CLASSES)},
    }


def most_lent():
    """Return how many bytes were lent at once since the last call of this."""
    cdef uint64_t most = stats_now.peak_bytes
    stats_now.peak_bytes = stats_now.lent_bytes
    return most


def set_limit(limit_bytes):
    """Set the ceiling for lent and reserved bytes. What is lent already stays lent.

    Raises ValueError for a negative number.
    """
    if limit_bytes < 0:
        raise ValueError(f"limit_bytes is {limit_bytes}, expected 0 or more")
    pool_set_limit(limit_bytes)


def trim():
    """Give slabs of which no buffer is lent back to the system; return the bytes given."""
    return pool_trim()


cdef class Lent:
    """A lent buffer, for tests and benchmarks of the pool.

    Raises MemoryError if the pool refuses.
    """
    cdef char* data      # lent, NULL once given
    cdef uint32_t cap

    def __cinit__(self, size):
        self.data = try_pool_take(size, &self.cap)
        if self.data == NULL:
            raise MemoryError(f"the pool refused {size} bytes")

    def __dealloc__(self):
        give_lent(self)

    @property
    def capacity(self):
        """Bytes of the buffer."""
        return self.cap

    @property
    def address(self):
        """Where the buffer is, 0 once given."""
        return <size_t>self.data

    def give(self):
        """Give the buffer back. May be called twice."""
        give_lent(self)

    def fill(self, int octet):
        """Write every byte of the buffer."""
        memset(self.data, octet, self.cap)

    def content(self):
        """Return a copy of the buffer's bytes."""
        return self.data[:self.cap]


cdef void give_lent(Lent lent) noexcept:
    if lent.data != NULL:
        pool_give(lent.data, lent.cap)
        lent.data = NULL


def take_and_give(size, Py_ssize_t times):
    """Take and give a buffer `times` times, for benchmarks."""
    cdef uint32_t cap = 0
    cdef size_t wanted = size
    cdef char* data
    with nogil:
        for _ in range(times):
            data = try_pool_take(wanted, &cap)
            if data != NULL:
                pool_give(data, cap)
