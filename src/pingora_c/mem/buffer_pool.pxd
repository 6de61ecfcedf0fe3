"""The worker's pool of byte buffers: three size classes cut from slabs, bounded in total, counted.

One pool per process, used from the loop's thread only (the GIL is held, though no function needs it). A buffer is
lent: whoever takes it
gives it back with the capacity it was given. Slabs are kept until `pool_trim`; a forked child starts with what its
parent had.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    BUFFER_SMALL = 4096      # a head
    BUFFER_MEDIUM = 16384
    BUFFER_LARGE = 65536     # body bytes that a receiver did not take
    BUFFER_CLASSES = 3

cdef struct PoolStats:
    uint64_t limit_bytes               # ceiling for lent and reserved bytes together
    uint64_t slab_bytes                # got from the system, lent or free
    uint64_t lent_bytes                # lent_bytes + reserved_bytes <= limit_bytes
    uint64_t reserved_bytes            # of buffers that are not the pool's
    uint64_t peak_bytes                # highest lent_bytes since `most_lent` was asked
    uint64_t taken                     # successful takes
    uint64_t refused                   # takes answered NULL because of the limit or the system
    uint64_t lent[BUFFER_CLASSES]      # buffers lent, per class
    uint64_t free[BUFFER_CLASSES]      # buffers in free lists, per class

# Lend a buffer of the smallest class that holds `size` bytes and set `cap` to its capacity.
# NULL if size > BUFFER_LARGE or the limit would be passed. The bytes are not zeroed (in asan and debug builds they
# are poisoned with 0xDD on return).
cdef char* try_pool_take(size_t size, uint32_t* cap) noexcept nogil

# Take back a buffer lent with this `cap`.
cdef void pool_give(char* data, uint32_t cap) noexcept nogil

# Count `size` bytes of a buffer got elsewhere, too large for the pool; False if the limit would be passed. Whoever
# reserved them releases as many.
cdef bint pool_reserve(size_t size) noexcept nogil
cdef void pool_release(size_t size) noexcept nogil

# Bytes that are lent or reserved now.
cdef uint64_t pool_held() noexcept nogil

# Set the ceiling for these (default 256 MiB); what is lent already stays lent.
cdef void pool_set_limit(uint64_t limit_bytes) noexcept nogil

cdef const PoolStats* pool_stats() noexcept nogil

# Give fully free slabs back to the system; return the bytes given.
cdef uint64_t pool_trim() noexcept nogil
