"""A stream of a client's HTTP/2 connection, and what it knows of that connection.

Body that comes while the owner takes none waits here, at most a window of it. Body that goes waits in the session for
the client's window, and counts as full beyond HIGH_WATER; the answer is whole for the owner when it is handed over.

All streams of a connection hold little together, however many they are: what could leave at once is always read, more
only while there is room for it. Streams whose upstream is not read for that stand in a line, the longest waiting first.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from pingora_c.h2.session cimport H2Session, H2Stream
from pingora_c.http.trailers cimport Trailers
from pingora_c.mem.byte_queue cimport ByteQueue
from pingora_c.proxy.pace cimport Pace
from pingora_c.proxy.server_connection cimport ServerConnection
from pingora_c.proxy.stream cimport Allowance, Stream


cdef enum:
    ROOM = 262144              # bytes that are framed before a socket takes some


cdef class H2Carrier(ServerConnection):
    cdef H2Session session
    cdef list ending               # streams that are answered while their request goes on
    cdef list resumed              # streams that have something to deliver
    cdef list lost                 # streams that are gone, of which their owners were not told
    cdef list relieved             # streams whose owner is told that there is room
    cdef list line                 # of H2ServerStream, whose upstream is not read for want of room
    cdef Allowance promises        # of upstreams that speak HTTP/2
    cdef bint line_moved           # somebody in the line may have room since it was looked at
    cdef uint32_t n_sessions       # streams with an owner, those that were reset while their session ends included
    cdef H2ServerStream delivering     # whose waiting body is handed on; None: nobody's
    cdef uint64_t drain_at_ms      # when the first GOAWAY was sent, 0: it was not
    cdef void serve_line(self) noexcept        # have those read on that may
    cdef void relieve(self) noexcept           # tell them, and those that were full
    # Its owner is to hear, in one of the next turns, that it failed as `kind`, a FailureKind, says.
    cdef void list_lost(self, H2ServerStream stream, int kind) noexcept
    cdef void tell_lost(self) noexcept         # some of them; on_ready follows for the others
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
    cdef uint8_t lost_to           # the FailureKind that its owner is told, while it is in server.lost
    cdef bint is_gone              # closed, reset or forgotten: nothing is sent any more
    cdef bint is_heard_out         # a tunnel that both sides have ended: what the client sent before still goes on
    cdef bint is_deaf              # a part of its body found no memory: nothing behind it may go on
    cdef bint is_connect           # an extended CONNECT
    cdef bint head_sent
    cdef bint is_ended_here        # send_end was called
    cdef bint was_full             # the owner waits for room
    cdef bint is_listed            # in server.resumed
    cdef bint is_asked             # room() is called before something is read for it
    cdef bint is_in_line
    cdef bint has_turn             # it came out of the line, and may read before others
    cdef int64_t out_left          # bytes of the declared length still to go, -1: none is declared
    cdef Pace pace
    cdef uint32_t cut_code(self) noexcept
    cdef void list_resumed(self) noexcept
    cdef void deliver(self) noexcept       # what waits, as far as the owner takes it
    cdef void end_hearing(self) noexcept
    cdef void drop_body(self) noexcept     # nobody will take what waits, unless it is heard out
    cdef size_t begin_part(self, size_t size) noexcept     # how much of a body's part goes out; 0: nothing
    cdef bint can_leave(self) noexcept     # what comes can be framed at once
    cdef size_t stand_in_line(self, bint is_first) noexcept    # 0; LITTLE without memory for it
