"""Memory for nghttp2. Owns pieces and regions that are free; those in use are nghttp2's."""
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset
from pingora_c.lib.sanitize cimport PG_ASAN, PG_DEBUG
from pingora_c.lib.unistd cimport _SC_PAGESIZE, sysconf
from posix.mman cimport (
    MADV_DONTNEED, MADV_NOHUGEPAGE, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, madvise, mmap,
)

cdef enum:
    GRAIN = 64                   # sizes of pieces are multiples of it
    CLASSES = 16                 # the largest piece that is kept has 1,024 bytes
    KEPT_BYTES = 65536           # of free pieces of one size
    SLAB_REGIONS = 64

# Before each piece, in use or free.
cdef struct Piece:
    size_t size                  # bytes behind this head
    Piece* next                  # of those that are free

ctypedef Piece* Shelf            # the first of those of one size

# Pages that are not used cost nothing, so regions are kept for the next session.
cdef struct Regions:
    char** free                  # owned, n_free pointers; room >= regions that there are
    uint32_t n_free
    uint32_t room
    char* uncut                  # those of the newest slab that were never used
    uint32_t n_uncut

cdef Shelf[CLASSES] shelves
cdef uint32_t[CLASSES] shelf_counts
cdef Regions regions

# Whole pages of the system, which have up to 64 KiB: what a part gives back must not reach into the next one.
cdef size_t frame_room = whole_pages(FRAME_BYTES)
cdef size_t table_room = whole_pages(TABLE_BYTES)
cdef size_t region_room = frame_room + table_room

memset(&regions, 0, sizeof(regions))
memset(shelves, 0, sizeof(shelves))
memset(shelf_counts, 0, sizeof(shelf_counts))


cdef size_t whole_pages(size_t size) noexcept nogil:
    cdef size_t page = <size_t>sysconf(_SC_PAGESIZE)
    return (size + page - 1) // page * page


cdef void* take(size_t size) noexcept nogil:
    cdef size_t row = (size - 1) // GRAIN if size else 0
    cdef Piece* piece = NULL
    if row < CLASSES:
        size = (row + 1) * GRAIN
        piece = shelves[row]
    if piece != NULL:
        shelves[row] = piece.next
        shelf_counts[row] -= 1
        return piece + 1
    if size > <size_t>-1 - sizeof(Piece):
        return NULL
    piece = <Piece*>malloc(sizeof(Piece) + size)
    if piece == NULL:
        return NULL
    piece.size = size
    return piece + 1


cdef void give(void* place) noexcept nogil:
    cdef Piece* piece = <Piece*>place - 1
    cdef size_t row = piece.size // GRAIN - 1
    # checked builds have no lists: use after free would not be seen
    if PG_DEBUG or PG_ASAN or row >= CLASSES or shelf_counts[row] * piece.size >= KEPT_BYTES:
        free(piece)
        return
    piece.next = shelves[row]
    shelves[row] = piece
    shelf_counts[row] += 1


cdef bint cut_slab() noexcept nogil:
    cdef size_t size = <size_t>SLAB_REGIONS * region_room
    cdef char** grown = <char**>realloc(regions.free, (regions.room + SLAB_REGIONS) * sizeof(char*))
    cdef void* slab
    if grown == NULL:
        return False
    regions.free = grown
    slab = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if slab == MAP_FAILED:
        return False
    madvise(slab, size, MADV_NOHUGEPAGE)      # or single pages could not go back
    regions.room += SLAB_REGIONS
    regions.uncut = <char*>slab
    regions.n_uncut = SLAB_REGIONS
    return True


cdef bint has_region(SessionMemory* memory) noexcept nogil:
    if memory.region != NULL:
        return True
    if PG_DEBUG or PG_ASAN:
        return False
    if regions.n_free:
        regions.n_free -= 1
        memory.region = regions.free[regions.n_free]
        return True
    if regions.n_uncut == 0 and not cut_slab():
        return False
    memory.region = regions.uncut
    regions.uncut += region_room
    regions.n_uncut -= 1
    return True


cdef inline char* frame_of(SessionMemory* memory) noexcept nogil:
    return memory.region


cdef inline char* table_of(SessionMemory* memory) noexcept nogil:
    return memory.region + frame_room


# -- what nghttp2 calls

cdef void* on_malloc(size_t size, void* user) noexcept nogil:
    cdef SessionMemory* memory = <SessionMemory*>user
    if FRAME_LEAST < size <= FRAME_BYTES and not memory.has_frame and has_region(memory):
        memory.has_frame = True
        return frame_of(memory)
    return take(size)


cdef void* on_calloc(size_t n, size_t size, void* user) noexcept nogil:
    cdef SessionMemory* memory = <SessionMemory*>user
    cdef void* place
    if n and size > <size_t>-1 // n:
        return NULL
    size *= n
    if size == TABLE_BYTES and not memory.has_table and has_region(memory):
        memory.has_table = True
        memset(table_of(memory), 0, size)
        return table_of(memory)
    place = take(size)
    if place != NULL:
        memset(place, 0, size)
    return place


cdef void on_free(void* place, void* user) noexcept nogil:
    cdef SessionMemory* memory = <SessionMemory*>user
    if place == NULL:
        return
    if memory.has_frame and place == frame_of(memory):
        memory.has_frame = False
    elif memory.has_table and place == table_of(memory):
        memory.has_table = False
    else:
        give(place)


cdef void* on_realloc(void* place, size_t size, void* user) noexcept nogil:
    cdef SessionMemory* memory = <SessionMemory*>user
    cdef size_t before
    cdef void* moved
    if place == NULL:
        return on_malloc(size, user)
    if memory.has_frame and place == frame_of(memory):
        before = FRAME_BYTES
    elif memory.has_table and place == table_of(memory):
        before = TABLE_BYTES
    else:
        before = (<Piece*>place - 1).size
    if size <= before:
        return place
    moved = on_malloc(size, user)
    if moved != NULL:
        memcpy(moved, place, before)
        on_free(place, user)
    return moved


cdef void memory_begin(SessionMemory* memory) noexcept nogil:
    memory.hooks.mem_user_data = memory
    memory.hooks.malloc = on_malloc
    memory.hooks.free = on_free
    memory.hooks.calloc = on_calloc
    memory.hooks.realloc = on_realloc


cdef bint is_zero(const char* data, size_t size) noexcept nogil:
    cdef const size_t* words = <const size_t*>data
    cdef size_t i
    for i in range(size // sizeof(size_t)):
        if words[i]:
            return False
    return True


cdef void memory_rest(SessionMemory* memory) noexcept nogil:
    if memory.region == NULL:
        return
    madvise(frame_of(memory), frame_room, MADV_DONTNEED)
    # an empty table is zero, as are the pages that come back
    if not memory.has_table or is_zero(table_of(memory), TABLE_BYTES):
        madvise(table_of(memory), table_room, MADV_DONTNEED)


cdef void memory_end(SessionMemory* memory) noexcept nogil:
    if memory.region == NULL:
        return
    madvise(memory.region, region_room, MADV_DONTNEED)
    regions.free[regions.n_free] = memory.region
    regions.n_free += 1
    memory.region = NULL
