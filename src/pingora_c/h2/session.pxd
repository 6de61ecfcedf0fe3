"""One side of an HTTP/2 connection: bytes to events, and what is submitted to bytes, by nghttp2. Knows no socket, no
exchange and no pool; whoever has a connection subclasses it and overrides what is marked so. For both roles.

In: `receive` shows bytes; events come from within it. Out: what is submitted waits until `pump` turns it into frames,
which `put` takes; the owner pumps once at the end of a turn of the reactor, so that all its frames leave together.
Nothing may be received or pumped from within an event, but everything may be submitted.

A stream is an H2Stream, embedded in an object of the layer above and attached to an id; events name it, or NULL once it
was detached. Its body goes out as DATA when the windows allow; what they do not is copied, unless it is in a bytes
object that is kept.

Flow control: the window of a stream is given back by `consume` as the layer above got rid of the bytes: so `window`
bounds what it has to hold. That of the connection is given back at once, or one stream that waits would stop all; but
not while more than `unread` bytes of all streams wait, or many streams would hold a window each.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from pingora_c.h2.guard cimport FrameGuard, GuardLimits
from pingora_c.h2.memory cimport SessionMemory
from pingora_c.h2.priority cimport EarlyPriorities
from pingora_c.h2.section cimport FieldSection
from pingora_c.http.header_block cimport HeaderBlock
from pingora_c.lib.nghttp2 cimport nghttp2_nv, nghttp2_session
from pingora_c.mem.byte_queue cimport ByteQueue

cdef enum H2Code:            # of RST_STREAM and GOAWAY (RFC 9113 §7), for layers that see no nghttp2
    H2_NO_ERROR = 0
    H2_PROTOCOL_ERROR = 1
    H2_INTERNAL_ERROR = 2
    H2_FLOW_CONTROL_ERROR = 3
    H2_SETTINGS_TIMEOUT = 4
    H2_STREAM_CLOSED = 5
    H2_FRAME_SIZE_ERROR = 6
    H2_REFUSED_STREAM = 7
    H2_CANCEL = 8
    H2_COMPRESSION_ERROR = 9
    H2_CONNECT_ERROR = 10
    H2_ENHANCE_YOUR_CALM = 11
    H2_INADEQUATE_SECURITY = 12
    H2_HTTP_1_1_REQUIRED = 13

cdef struct H2Limits:
    uint32_t head_bytes      # of a field section, each field charged 32 bytes more; <= SECTION_BYTES_MAX
    uint32_t fields          # <= SECTION_FIELDS_MAX
    uint32_t window          # of a stream, for what comes
    uint32_t connection_window
    size_t unread            # server: bytes of all streams that may wait before the connection's window is shut
    uint32_t streams         # server: that the client may have open
    uint32_t assumed_streams     # client: that we may have open before the server's SETTINGS say
    bint connects            # server: extended CONNECT is taken (RFC 8441)
    # server: streams that the client may reset at once, and in a second on average; those that we reset for a fault of
    # its own count
    uint32_t resets
    uint32_t resets_per_second
    GuardLimits guard

cdef struct H2Stream:
    void* owner              # borrowed: whose stream it is
    int32_t id               # 0: not attached
    ByteQueue out            # owned: body that waits for a window, or for the connection to have room
    const char* span         # borrowed during send_data: goes behind `out`
    size_t span_size
    size_t unread            # bytes of on_data that were not consumed
    size_t wider             # client: as `widen`, when the head has left; before submit_request
    const HeaderBlock* trailers    # borrowed until the end: go behind the body; NULL: none
    bint out_ended           # the body ends behind what waits
    bint is_deferred         # nghttp2 asks no more until it is told
    bint is_out_closed       # END_STREAM was framed
    bint is_reset_here       # we sent RST_STREAM, or nghttp2 did for us because the peer is wrong


cdef class H2Session:
    cdef nghttp2_session* session  # owned
    cdef SessionMemory memory      # it takes from here
    cdef bint is_server
    cdef H2Limits limits
    cdef FieldSection section
    cdef FrameGuard guard
    cdef EarlyPriorities early     # server: of streams that the client has not opened
    cdef uint64_t now_ms           # set by the owner before receive
    cdef size_t n_unread           # by the last receive
    cdef size_t unread             # H2Stream.unread of all
    cdef size_t owed               # bytes of the connection's window that were not given back
    cdef size_t held_bytes         # of the pool's memory, in bodies that wait, of all streams
    cdef bint in_call              # inside nghttp2
    cdef bint is_broken            # there was no memory to pump, perhaps within a frame: nothing may follow
    cdef uint32_t guarded          # by which the guard, or another limit on what comes, ended the connection, else 0
    cdef bint has_settings         # the peer's SETTINGS came
    cdef bint is_going             # GOAWAY was received or sent: no further stream
    cdef uint32_t highest_id       # server: of a stream that the client opened
    cdef uint32_t n_opened         # server: streams that it opened
    cdef uint64_t resets_left_milli    # server: thousandths of resets that the client still has
    cdef uint64_t resets_at_ms         # when it was looked at last
    cdef bint is_exhausted             # it has none
    cdef uint64_t reset_at_ms      # when we sent the last RST_STREAM, or had to submit it, 0: never
    cdef uint32_t sent_goaway_code     # of a GOAWAY that we sent for an error, else 0

    # `limits` is set: make the session and submit what it begins with. Raises MemoryError.
    cdef int begin(self, bint is_server) except -1
    # Take bytes, but for n_unread at the end: those wait until guard.heads_left was raised. 0; -1: the connection is at
    # its end, pump what is left (a GOAWAY that says why) and close it.
    cdef int receive(self, const char* data, size_t size) noexcept
    # Frame what may leave while has_room(); 0, -1: the connection is at its end.
    cdef int pump(self) noexcept
    cdef bint wants_pump(self) noexcept        # something waits to be framed
    cdef bint wants_read(self) noexcept        # False: nothing that comes is looked at any more, the peer is told why
    cdef void drop_section(self) noexcept      # nothing is received any more: give back what one has so far
    cdef void rest(self) noexcept              # nothing is expected for a while: do with less memory until then
    cdef bint is_over(self) noexcept           # nothing more will come or go: close the connection

    # -- streams
    cdef int attach(self, H2Stream* stream, int32_t stream_id) noexcept    # server: in on_section; 0 or -1
    cdef void detach(self, H2Stream* stream) noexcept      # no further event names it; frees what waits
    # client: a new stream with these fields, and END_STREAM unless it has a body. 0; -1 without memory, -2: the
    # session takes no further stream
    cdef int submit_request(self, H2Stream* stream, const nghttp2_nv* fields, size_t n, bint has_body) noexcept
    cdef bint has_left(self, H2Stream* stream) noexcept    # client: its head was framed
    # server: a head. An interim one has no effect on what follows. 0, or less
    cdef int submit_head(self, H2Stream* stream, const nghttp2_nv* fields, size_t n, bint has_body) noexcept
    cdef int submit_interim(self, H2Stream* stream, const nghttp2_nv* fields, size_t n) noexcept
    # Body bytes, copied unless they can be framed at once. 0, -1 without memory
    cdef int send_data(self, H2Stream* stream, const char* data, size_t size) noexcept
    # The same for the first `size` bytes of `body`, which is kept until they were framed. 0, -1 without memory
    cdef int send_kept(self, H2Stream* stream, bytes body, size_t size) noexcept
    # The body ends, with trailers (kept by the caller until the stream ends) or NULL.
    cdef void send_end(self, H2Stream* stream, const HeaderBlock* trailers) noexcept
    cdef void reset(self, H2Stream* stream, uint32_t code) noexcept        # RST_STREAM
    cdef void consume(self, H2Stream* stream, size_t size) noexcept        # bytes of on_data are dealt with
    cdef void drop_data(self, H2Stream* stream, size_t size) noexcept      # the same, its window stays as it is
    cdef bint is_shut(self) noexcept           # the connection's window is used up, and not given back

    # The peer may send so many bytes more before some are consumed, for as long as the stream is there.
    cdef void widen(self, H2Stream* stream, size_t size) noexcept

    cdef size_t window_of(self, H2Stream* stream) noexcept     # bytes of body that the peer takes now

    # -- the connection
    cdef void ping(self) noexcept
    cdef void announce_goaway(self) noexcept               # a first GOAWAY: no stream that is under way is lost
    cdef void goaway(self, uint32_t code) noexcept         # the last one: no new streams
    cdef void terminate(self, uint32_t code) noexcept      # GOAWAY, then nothing more is said
    cdef uint32_t peer_max_streams(self) noexcept
    cdef bint peer_takes_connect(self) noexcept            # SETTINGS_ENABLE_CONNECT_PROTOCOL
    cdef bint may_open(self) noexcept                      # client: one more stream id, and no GOAWAY

    # -- overridden: output
    cdef int put(self, const char* data, size_t size) noexcept             # copy; 0, -1 without memory
    cdef bint has_room(self) noexcept                      # the connection takes more without holding too much
    # -- overridden: events
    # A head or trailers, whole and valid, in self.section; `stream` NULL: a new one (server) or one that was detached.
    cdef void on_section(self, H2Stream* stream, int32_t stream_id, bint is_end) noexcept
    # One past a limit. The stream goes on; reset it, or answer.
    cdef void on_section_refused(self, H2Stream* stream, int32_t stream_id, bint is_end) noexcept
    cdef void on_data(self, H2Stream* stream, const char* data, size_t size) noexcept     # consume it
    # A DATA frame had padding. nghttp2 consumes it by itself, but says so to the peer only with what else is consumed.
    cdef void on_padding(self, H2Stream* stream) noexcept
    cdef void on_end(self, H2Stream* stream) noexcept      # END_STREAM came with DATA
    # Both sides are done, or RST_STREAM was sent or came, or GOAWAY says that it will not be served
    # (H2_REFUSED_STREAM). It is detached; its memory stays until the call that this comes from has returned.
    cdef void on_closed(self, H2Stream* stream, uint32_t code) noexcept
    cdef void on_settings(self) noexcept
    cdef void on_window(self) noexcept                     # of a stream or of the connection: the peer takes more
    cdef void on_goaway(self, uint32_t code) noexcept
    cdef void on_pong(self) noexcept
    cdef void on_framed(self, H2Stream* stream, size_t size) noexcept      # so much of its body was framed

    # -- private
    cdef int pass_on(self, const char* data, size_t size) noexcept
    cdef bint may_reset(self) noexcept
    cdef bint is_gone(self, uint32_t stream_id) noexcept
    cdef int make(self) except -1
    cdef void resume(self, H2Stream* stream) noexcept
    cdef int keep(self, H2Stream* stream, const char* data, size_t size) noexcept
    cdef void drop_waiting(self, H2Stream* stream) noexcept
    cdef void open_window(self) noexcept


# A short name of a code, "REFUSED_STREAM".
cdef str h2_code_name(uint32_t code)
