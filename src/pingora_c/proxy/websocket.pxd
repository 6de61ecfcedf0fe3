"""A tunnel that carries WebSocket: what of it the proxy understands.

Without `websocket_message` bytes go through as they are and only the headers of frames are looked at, where they lie:
so it is known where a frame ends, whether messages move, and whether somebody closed. With the hook messages go through
two MessageFilters.

    RUNNING -> LEAVING (our Close frames left, the answers are waited for) -> ended; a failure ends it from anywhere

Ends that have sent their Close frames to each other have the same time to end their connections.
"""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.http.message cimport RequestHead, ResponseHead
from pingora_c.net.timer cimport Timer
from pingora_c.proxy.hook_context cimport HookContext
from pingora_c.proxy.message_filter cimport MessageFilter, MessageOwner
from pingora_c.proxy.plan cimport Plan
from pingora_c.proxy.stream cimport Stream, StreamOwner
from pingora_c.ws.deflate cimport DeflateTerms
from pingora_c.ws.frame cimport FrameReader

# One direction.
cdef struct Way:
    FrameReader frames       # of what comes; unused with a filter
    bint has_closed          # a Close frame went this way: nothing may follow it
    bint was_answered        # one came, or the end of the source did
    bint is_cut              # what comes goes no further


cdef class WebSocket(MessageOwner):
    cdef StreamOwner owner         # the session; None once it has ended
    cdef Plan plan
    cdef Way up                    # from the client to the upstream
    cdef Way down
    cdef MessageFilter up_filter   # None: without the hook
    cdef MessageFilter down_filter
    cdef DeflateTerms terms
    cdef Timer timer               # of Limits.message_timeout, then of leaving
    cdef uint64_t n_messages       # frames of data that began, both ways
    cdef uint64_t n_sent           # messages of send()
    cdef uint64_t n_before         # when they were looked at last
    cdef uint8_t quiet_quarters    # times they were looked at since there was one
    cdef bint is_lost              # what comes is no WebSocket: bytes, no more
    cdef bint is_leaving
    cdef int leave_code            # of the Close frames that are still to go
    cdef bytes leave_reason

    # For the tunnel of a session whose answer is `response`; None if that is no WebSocket. ValueError for extensions
    # that the filters do not know.
    @staticmethod
    cdef WebSocket open(StreamOwner owner, Plan plan, HookContext hooks, Stream down, Stream up, RequestHead request,
                        ResponseHead response)
    # `size` bytes came from the client (`is_request`) or the upstream; they go on by the owner's on_passed.
    cdef void take(self, bint is_request, const char* data, size_t size) noexcept
    # The source has ended. True: what came before is still on its way, and on_filtered_end follows.
    cdef bint holds_end(self, bint is_request) noexcept
    # The receiver has room again; False: the source stays paused.
    cdef bint go_on(self, bint is_request) noexcept
    # Close both sides; what they still send goes no further. False: not possible any more, or not known how.
    cdef bint leave(self, int code, bytes reason) noexcept
    cdef void end(self) noexcept             # the session has ended; may be called twice
    # private
    cdef int start(self, HookContext hooks, Stream down, Stream up, ResponseHead response) except -1
    cdef Way* way(self, bint is_request) noexcept
    cdef size_t scan(self, Way* way, const char* data, size_t size, bint to_boundary) noexcept
    cdef void begin_leaving(self, int code, bytes reason) noexcept
    cdef void leave_way(self, bint is_request) noexcept
    cdef void send_close(self, bint is_request) noexcept
    cdef bytes close_frame(self, bint is_request)
    cdef void check_left(self) noexcept
    cdef bint is_over(self) noexcept         # both sides have sent their Close frames
    cdef void stay(self) noexcept            # instead of ending at on_left: it comes again
    cdef void watch(self) noexcept
    cdef void on_timer(self) noexcept
    cdef void arm(self, uint64_t delay_ms) noexcept

# The head that goes upstream for a WebSocket whose messages are filtered: it offers no extension but those that the
# filters know. `head` itself if there is nothing to change.
cdef RequestHead with_known_extensions(RequestHead head)
