"""The memory of nghttp2's sessions. For each request nghttp2 takes and frees some twenty small pieces: these are kept
in lists by size. Two large ones stay as long as a session: the buffer in which it makes frames, and the table of its
streams. They get pages of their own, so that a session without streams can do without them: memory_rest.
"""
from libc.stddef cimport size_t
from pingora_c.lib.nghttp2 cimport nghttp2_mem

cdef enum:
    FRAME_BYTES = 20480          # a frame of 16 KiB, its head and padding
    FRAME_LEAST = 16384          # what is larger, up to FRAME_BYTES, is that buffer
    TABLE_BYTES = 4096           # of few streams: a larger one is a piece

# Of one session, embedded in whoever owns it and zeroed before.
cdef struct SessionMemory:
    nghttp2_mem hooks            # given to nghttp2
    char* region                 # owned: frame, then table, in pages of their own; NULL until one is asked for
    bint has_frame               # its parts are in use
    bint has_table

# Fill in the hooks. `memory` does not move until memory_end.
cdef void memory_begin(SessionMemory* memory) noexcept nogil
# Give the pages back to the system that hold nothing: nothing may wait to be sent. They come back when they are used.
cdef void memory_rest(SessionMemory* memory) noexcept nogil
# The session is deleted.
cdef void memory_end(SessionMemory* memory) noexcept nogil
