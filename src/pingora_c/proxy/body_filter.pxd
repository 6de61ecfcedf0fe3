"""Body filters: the hooks that see the chunks of one body of one session, in order, each finished before the next.

A chunk goes through all hooks of its direction; None leaves it as it is, b"" drops it, LastChunk ends the body there.
While a hook awaits, the source is paused, so at most what one read brought waits.

    feed* -> feed_end -> ended; close() from anywhere
"""
cimport cython
from libc.stddef cimport size_t
from pingora_c.http.trailers cimport Trailers
from pingora_c.proxy.hook_context cimport HookContext
from pingora_c.proxy.plan cimport Plan
from pingora_c.proxy.stream cimport Stream, StreamOwner


@cython.final
cdef class BodyFilter:
    cdef StreamOwner owner      # the session; None once closed
    cdef Stream source          # paused while a hook awaits
    cdef HookContext hooks
    cdef bint is_request
    cdef tuple stages           # phases in order: those of chunks, then those of trailers
    cdef int n_body_stages      # how many of `stages` are of chunks
    cdef int stage              # the one at work
    cdef int phase              # its Phase
    cdef object task            # a hook that awaits, else None
    cdef bytes chunk            # as the stages before left it
    cdef bint is_last           # `chunk` is the last
    cdef bint source_ended
    cdef bint has_ended         # the last chunk went out; what still comes is discarded
    cdef Trailers trailers

    @staticmethod
    cdef BodyFilter new(HookContext hooks, StreamOwner owner, Stream source, bint is_request)
    cdef void feed(self, const char* data, size_t size) noexcept
    cdef void feed_end(self, Trailers trailers) noexcept
    cdef void close(self) noexcept
    # private
    cdef void go_on(self) noexcept
    cdef object caught(self)
    cdef int run(self) except -1
    cdef bint call(self, int phase) except -1
    cdef int take(self, int phase, object result) except -1
    cdef int next_chunk(self) except -1
    cdef void failed(self, object error) noexcept

# Whether the plan has a hook for the bodies of this direction.
cdef bint has_body_hooks(Plan plan, bint is_request) noexcept
