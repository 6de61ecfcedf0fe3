"""The kept bytes of a request body: what a retry sends again, and what `read_body` gives to a hook."""
cimport cython
from libc.stddef cimport size_t


@cython.final
cdef class Replay:
    cdef char* data          # owned, malloc'ed; NULL while empty, unused once `whole` is set
    cdef size_t size         # bytes kept
    cdef size_t room         # bytes at data
    cdef size_t limit        # size never passes it
    cdef size_t reserved     # bytes of it that the pool counts
    cdef bint lacks_memory    # it has overflowed for another reason: the buffers of all are full
    cdef bint has_overflowed  # the body is longer: nothing is kept, and a retry that needs it is impossible
    cdef bytes whole         # the complete body, once `complete` was called

    @staticmethod
    cdef Replay new(size_t limit)
    # 0; -1 if the limit is passed or memory lacks: what was kept is dropped.
    cdef int append(self, const char* data, size_t size) noexcept
    # The body has ended: turn what is kept into `whole`.
    cdef bytes complete(self)
    cdef const char* bytes_at(self) noexcept     # `size` bytes, good until the next append
    cdef void drop(self) noexcept
