"""The server side of HTTP/2: a client's connection and the streams of its exchanges, over an H2Session.

    OPEN -> FLUSHING -> LINGERING -> closed; a drain is announced while OPEN

Nothing is written from within a turn: what sessions submit is framed and leaves at the end of the reactor's entry,
that of all streams in one call (Reactor.make_late). One timer looks at all streams a few times per limit.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from pingora_c.h2.session cimport H2Session, H2Stream
from pingora_c.http.message cimport RequestHead
from pingora_c.http.trailers cimport Trailers
from pingora_c.proxy.h2_stream cimport H2Carrier, H2ServerStream
from pingora_c.proxy.server_connection cimport ServerConnection

cdef enum H2ServerState:
    H2_OPEN = 0
    H2_FLUSHING = 1       # the last frames leave, then our side ends
    H2_LINGERING = 2      # what the client still sends is discarded for a while


cdef class ServerSession(H2Session):
    cdef void* server     # borrowed H2Server, which owns us


cdef class H2Server(H2Carrier):
    cdef uint8_t state             # H2ServerState
    cdef set streams               # that are not closed
    cdef uint64_t n_requests
    cdef uint64_t head_since_ms    # since when a field section is incomplete, 0: none is
    cdef uint64_t idle_since_ms    # since when there is no stream
    cdef uint32_t heads_given      # requests that may begin in this turn
    cdef bint has_dialed           # in this turn: one of them opened a connection to its origin
    cdef bint said_goaway          # the last one
    cdef bint is_ending            # the session is at its end, and why was counted
    cdef bint is_sweeping          # the timer is set to look at the streams, else to the end of idleness
    cdef uint64_t swept_at_ms      # when they were looked at last, or that began
    # Begin on the connection that `old` was: its socket, its client. `data` was read from it. Raises MemoryError.
    cdef int take_over(self, ServerConnection old) except -1
    cdef void show(self, const char* data, size_t size) noexcept
    # -- from the session
    cdef void take_section(self, H2Stream* at, int32_t stream_id, bint is_end, bint is_over) noexcept
    cdef void take_data(self, H2ServerStream stream, const char* data, size_t size) noexcept
    cdef void take_end(self, H2ServerStream stream, Trailers trailers) noexcept
    cdef void take_close(self, H2ServerStream stream, uint32_t code) noexcept
    cdef void note_framed(self, H2ServerStream stream, size_t size) noexcept
    # -- private
    cdef void count_end(self, uint32_t code) noexcept      # for what the client did: H2Code
    cdef void take_head(self, int32_t stream_id, bint is_end, int refusal) noexcept
    cdef void take_trailers(self, H2ServerStream stream, bint is_over) noexcept
    cdef H2ServerStream new_stream(self, int32_t stream_id)
    cdef void begin(self, H2ServerStream stream, RequestHead head) noexcept
    cdef void refuse(self, H2ServerStream stream, int refusal, bint asks_head) noexcept
    cdef size_t write_refusal(self, H2ServerStream stream, int refusal, bint asks_head) except? 1
    cdef void hear_out(self, H2ServerStream stream) noexcept
    cdef void forget(self, H2ServerStream stream) noexcept
    cdef bint reset_answered(self) noexcept
    cdef bint has_no_stream(self) noexcept     # nor one whose field section has begun
    cdef void say_goaway(self) noexcept
    cdef void begin_close(self) noexcept
    cdef void linger(self) noexcept
    cdef void fail_streams(self, int kind) noexcept
    cdef void sweep(self) noexcept
    cdef void look_at(self, H2ServerStream stream) noexcept
    cdef void go_idle(self) noexcept
