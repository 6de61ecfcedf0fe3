"""A stream of a client's HTTP/2 connection, and what it knows of that connection.

Body that comes while the owner takes none waits here, at most a window of it. Body that goes waits in the session for
the client's window, and counts as full beyond HIGH_WATER; the answer is whole for the owner when it is handed over.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from pingora_c.h2.session cimport H2Session, H2Stream
from pingora_c.http.trailers cimport Trailers
from pingora_c.mem.byte_queue cimport ByteQueue
from pingora_c.proxy.pace cimport Pace
from pingora_c.proxy.server_connection cimport ServerConnection
from pingora_c.proxy.stream cimport Stream


cdef class H2Carrier(ServerConnection):
    cdef H2Session session
    cdef list ending               # streams that are answered while their request goes on
    cdef list resumed              # streams that have something to deliver
    cdef uint32_t n_sessions       # streams with an owner, those that were reset while their session ends included
    cdef uint64_t drain_at_ms      # when the first GOAWAY was sent, 0: it was not
    # -- overridden
    cdef void drop(self, H2ServerStream stream, uint32_t code) noexcept     # RST_STREAM, and hear no more of it
    cdef void frame(self) noexcept                                          # write what was submitted now


cdef class H2ServerStream(Stream):
    cdef H2Carrier server
    cdef H2Stream h2
    cdef ByteQueue waiting         # owned: body that came while the owner took none; the window bounds it
    cdef Trailers in_trailers      # of the request, that wait behind it
    cdef Trailers out_trailers     # kept until the stream is closed
    cdef bint has_ended            # END_STREAM came
    cdef bint end_waits            # behind `waiting`
    cdef bint is_gone              # closed, reset or forgotten: nothing is sent any more
    cdef bint is_connect           # an extended CONNECT
    cdef bint head_sent
    cdef bint is_ended_here        # send_end was called
    cdef bint was_full             # the owner waits for room
    cdef bint is_listed            # in server.resumed
    cdef int64_t out_left          # bytes of the declared length still to go, -1: none is declared
    cdef Pace pace
    cdef uint32_t cut_code(self) noexcept
    cdef void list_resumed(self) noexcept
