"""An exchange is the core of a session: one request and its response through the proxy. Runs the phases in order over
the attempts, and ends: with an answer from an upstream, one that was made here, or none. Hooks see it as a Session.

    FILTERS -> CONNECTING -> RELAYING -> LOGGING -> DONE; a failure or an answer of a hook goes to LOGGING from anywhere
"""
from libc.stdint cimport uint64_t
from pingora_c.proxy.attempts cimport Attempts
from pingora_c.proxy.response cimport Response


cdef class Exchange(Attempts):
    cdef bytes answer_body            # keeps the bytes of a Response while they are written
    cdef bint call_ended              # why a call of gRPC breaks off was said in trailers
    cdef uint64_t head_us             # when the head was complete
    cdef uint64_t ended_us
    cdef uint64_t hooks_us            # in_hooks_us() of an exchange that has ended

    cdef void start(self) noexcept
    cdef int after_ending(self, int phase, object result) except -1
    cdef int ask_upstream(self) except -1             # unless it may go no further, or is too large
    cdef int add_via(self) noexcept                   # 0, -1 without memory for it
    cdef int send_response(self) except -1
    cdef bint opens_tunnel(self) noexcept       # what hooks made of the answer still does
    # -- ending
    cdef Response filtered(self, Response response)      # by plan.answer_filter
    cdef int answer(self, Response response) except -1    # send what was made here
    cdef int send_answer(self, Response response) except -1
    cdef bint is_over_for(self, bint is_client) noexcept
    cdef void end_call(self) noexcept
    cdef void note_no_answer(self) noexcept
    cdef void conclude(self) noexcept
    cdef int write_access_log(self) except -1
    cdef void write_error_log(self, object summary) noexcept
    cdef object error(self)
    cdef uint64_t in_hooks_us(self) noexcept
