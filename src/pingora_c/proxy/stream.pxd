"""The seam between protocols and sessions: a Stream is one side of one session, whatever carries it.

A Stream is a source of body bytes and a sink for them. It pushes what it decodes into its owner, and takes what it is
given without refusing; who feeds it asks is_full() and pauses the source until on_writable. Spans are borrowed until
the end of the turn. Trailers are None where a body has none.
"""
from libc.stddef cimport size_t
from pingora_c.h1.framing cimport Framing
from pingora_c.http.message cimport ResponseHead
from pingora_c.http.trailers cimport Trailers

cdef enum:
    HIGH_WATER = 65536       # unsent bytes above which the source is paused


cdef class Stream


cdef class StreamOwner:
    cdef Stream opened       # the upstream stream that open_stream made last
    # `is_client`: the callback is about the client's side.
    cdef void on_body(self, bint is_client, const char* data, size_t size) noexcept
    cdef void on_body_end(self, bint is_client, Trailers trailers) noexcept
    cdef void on_writable(self, bint is_client) noexcept
    cdef void on_failure(self, bint is_client, int kind) noexcept     # a FailureKind; the stream is unusable
    cdef void on_connected(self) noexcept
    cdef void on_interim(self, ResponseHead head) noexcept            # 1xx but 101
    cdef void on_response(self, ResponseHead head, const Framing* framing) noexcept
    # -- from a body filter; `is_request`: of the request's body
    cdef void on_filtered(self, bint is_request, bytes chunk) noexcept
    cdef void on_filtered_end(self, bint is_request, Trailers trailers) noexcept
    cdef void on_filter_idle(self, bint is_request) noexcept          # the hook that awaited has ended
    cdef void on_filter_answer(self, object response) noexcept        # a Response that a hook returned
    # the hook of `phase` raised; `error` None: no memory
    cdef void on_filter_failed(self, int phase, object error) noexcept


cdef class Stream:
    cdef StreamOwner owner   # counted; None once the session let go
    cdef bint is_client      # this is the client's side
    cdef int send_body(self, const char* data, size_t size) noexcept  # 0, -1 without memory
    cdef int send_end(self, Trailers trailers) noexcept               # the same
    cdef bint is_full(self) noexcept          # the socket takes nothing and more than HIGH_WATER bytes wait
    cdef void pause_body(self) noexcept
    cdef void resume_body(self) noexcept
