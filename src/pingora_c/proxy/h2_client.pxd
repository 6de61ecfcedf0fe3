"""The client side of HTTP/2: connections to an origin that many exchanges share, and the stream of each.

    CONNECTING -> OPEN -> DRAINING (GOAWAY: no new streams) ; any -> closed

HTTP/2 has one window for all streams of a connection to begin with. So connections are wide or narrow: a wide one takes
those streams only whose window the client's connection answers for, a narrow one takes any.

All connections of one pool key are a group. A session that finds no room in one waits with its group, for its own
connect timeout; the group opens connections for those who wait, one for as many as the origin lets share it. What goes
out is framed and written once, when the reactor's turn ends.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.h2.session cimport H2Session, H2Stream
from pingora_c.http.trailers cimport Trailers
from pingora_c.net.connection cimport Connection
from pingora_c.net.reactor cimport Reactor
from pingora_c.proxy.stream cimport Stream
from pingora_c.upstream.peer cimport HttpPeer
from pingora_c.upstream.pool cimport ConnectionGroup, Pool

cdef enum:
    ASSUMED_STREAMS = 100    # before the origin's SETTINGS come (RFC 9113 §6.5.2 recommends no less)
    # bytes that the streams of a connection begin with
    NARROW_WINDOW = 4000     # they fit into a small buffer
    WIDE_WINDOW = 65537      # 64 KiB and the end; where a client's connection has an allowance, or one stream only

cdef enum H2ClientState:
    H2_CONNECTING = 0
    H2_OPEN = 1
    H2_DRAINING = 2


cdef class H2Group(ConnectionGroup):
    cdef Reactor reactor
    cdef Pool pool
    cdef object key
    cdef object origin           # origin_of the peers, for pool.h1_origins
    cdef bytes greeting          # sent before anything else, None: there is none
    cdef list clients            # of H2Client, connecting or open
    cdef list waiting            # of H2Carried, the longest waiting first
    cdef uint32_t n_connecting
    cdef uint32_t n_wide         # of the clients; less than most_clients: there is always one that takes any stream
    cdef uint32_t capacity       # streams that one more connection is expected to take
    cdef uint32_t most           # HttpPeer.max_h2_streams
    cdef uint32_t most_clients   # HttpPeer.max_h2_connections
    cdef size_t usual_bytes      # of an answer: the largest of late

    cdef void note_answer(self, size_t size) noexcept    # one had so many bytes
    cdef H2Client free_client(self, H2Carried stream)    # with room for it, a wide one first, or None
    cdef bint takes_connect(self) except -1          # whether the origin of one with room takes extended CONNECT
    cdef bint opens_wide(self, H2Carried stream) noexcept    # a connection opened for it would be wide
    # Open connections until everybody who waits has one to wait for, or there may be no more: 0, or the last one's code
    # of open_stream.
    cdef int open_connections(self, HttpPeer peer) except -2
    cdef int open_connection(self, HttpPeer peer, bint is_wide) except -2
    cdef void serve(self, H2Client client) noexcept  # who waits gets what room it has
    # A connection that was being opened is not: whoever has none to wait for fails.
    cdef void on_lost(self, H2Client client, int kind, str trouble) noexcept
    cdef int fail_waiting(self, int kind, str trouble) except -1
    cdef bint has_waiting(self) noexcept
    cdef void hand_over(self, H2Client client) noexcept    # the origin chose HTTP/1.1
    cdef void leave(self, H2Client client) noexcept
    # Leave the pool if nobody uses it: its key may be one client's, or one tenant's, who does not come back.
    cdef int go_if_unused(self) except -1
    cdef bint is_full(self) noexcept                 # no further connection
    cdef Py_ssize_t n_expected(self) except -1       # who can be served by the connections that are being opened


# A stream as its group and its connection know it; H2ClientStream is one.
cdef class H2Carried(Stream):
    cdef H2Group group           # while it waits for a connection, else None
    cdef H2Client client         # None before it has one, and after the end
    cdef H2Carried next
    cdef H2Carried previous
    cdef H2Stream h2
    cdef bint is_response_ended  # END_STREAM came
    cdef bint is_drained_next    # what is held goes on in the connection's next turn
    cdef bint awaits_settings    # it may begin when the origin has said what it takes: on_settled follows
    cdef bint is_told_full       # is_full() said so: on_writable follows
    # -- overridden
    # It has a connection; on_connected follows, or first on_settled.
    cdef void begin(self, H2Client client) noexcept
    cdef bint may_be_wide(self) noexcept                   # its client's connection has an allowance for that now
    cdef void on_settled(self) noexcept                    # the origin's SETTINGS came
    cdef void take_section(self, bint is_end) noexcept     # a head or trailers, in client.session.section
    cdef void take_data(self, const char* data, size_t size) noexcept
    cdef void on_padding(self) noexcept                    # a DATA frame had some, which took room in the window
    cdef void take_end(self, Trailers trailers) noexcept
    cdef void on_framed(self) noexcept                     # some of its body left
    cdef void on_closed(self, uint32_t code) noexcept      # nghttp2 knows it no more
    cdef void go_on(self) noexcept                         # is_drained_next was set
    cdef void fail(self, int kind) noexcept                # let go, tell the owner
    cdef void let_go(self) noexcept                        # of the connection or the group


cdef class H2ClientSession(H2Session):
    cdef void* client            # borrowed: it owns us


cdef class H2Client(Connection):
    cdef H2Group group           # None once it left
    cdef HttpPeer peer           # that it was opened for
    cdef H2ClientSession session  # None before it is open
    cdef uint8_t state           # H2ClientState
    cdef bint is_wide            # its streams begin with WIDE_WINDOW, else with NARROW_WINDOW
    cdef H2Carried first    # of the streams it carries, None: none
    cdef uint32_t n_streams
    cdef uint32_t n_exchanges    # so far
    cdef uint32_t n_full         # streams whose sources wait for room
    cdef uint64_t read_at_ms     # when something was read last
    cdef uint64_t idle_at_ms     # when its last stream ended, while n_streams is 0
    cdef uint64_t pinged_at_ms   # of a PING that is not answered, 0: none
    cdef bint is_ending          # inside end()

    cdef bint has_capacity(self) noexcept
    cdef bint takes(self, H2Carried stream) noexcept     # though it may have no capacity
    cdef int start(self) except -1                   # HTTP/2 begins
    cdef void arm(self) noexcept
    cdef void give_up(self) noexcept                 # the session takes nothing more
    cdef void suspect(self) noexcept                 # a stream waits in vain: is anybody there?
    cdef void drain(self) noexcept                   # no more new streams
    # The connection ends: each of its streams fails with `kind`, or what that means behind a head.
    cdef void end(self, int kind, str trouble) noexcept
    cdef void end_of_transport(self, int kind) noexcept    # with what the transport says of it
    cdef void link(self, H2Carried stream) noexcept
    cdef void unlink(self, H2Carried stream) noexcept
    cdef void tell_writable(self) noexcept
    cdef void tell_settled(self) noexcept
    cdef void open_more(self) noexcept
    cdef void surrender(self) noexcept               # the transport is another connection's from now on
