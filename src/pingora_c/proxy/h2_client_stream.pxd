"""A request over HTTP/2 to an origin: one stream of a connection that others share.

A stream whose session does not read never stops its neighbours: the window of the connection is always given back, its
own only for what the session took. So it holds no more than its own window, which begins with that of its connection,
and grows to `HttpPeer.h2_window` where a larger answer comes, or usually does, and the client's connection has an
allowance for it.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.h1.encode cimport Outgoing
from pingora_c.http.message cimport RequestHead, ResponseHead
from pingora_c.http.trailers cimport Trailers
from pingora_c.mem.byte_queue cimport ByteQueue
from pingora_c.net.reactor cimport Reactor
from pingora_c.net.timer cimport Timer
from pingora_c.proxy.h2_client cimport H2Carried, H2Client
from pingora_c.proxy.stream cimport Allowance, StreamOwner
from pingora_c.upstream.peer cimport HttpPeer
from pingora_c.upstream.pool cimport Pool


cdef class H2ClientStream(H2Carried):
    cdef HttpPeer peer
    cdef Timer timer             # of the connect while it waits, then of what the exchange waits for
    cdef uint32_t wait_ms        # after this long without progress it is looked which limit is meant
    cdef uint64_t waits_since_ms     # last progress
    cdef ByteQueue held          # body that came while it was paused
    cdef size_t owed             # bytes that the owner has, for which the window was not given back
    cdef size_t kept_back        # the same of what needed no room, as all of the body has it
    cdef bint is_padded          # what is kept back has to be given back, as padding takes the body's room
    cdef bint asks_room          # of the owner, for whatever comes
    cdef Allowance allowance     # of the client's connection, None: it has no need of one, or the stream has ended
    cdef size_t promised         # bytes of it that we have, all of `window` but NARROW_WINDOW
    cdef size_t window           # bytes that may come before the owner takes some
    cdef size_t came             # bytes of the answer's body
    cdef size_t widen_at         # when so many have come, a wider window would help
    cdef Trailers trailers_in    # wait behind `held`
    cdef Trailers trailers_out   # h2.trailers is their block
    cdef bytes accept            # of a WebSocket: what a key of HTTP/1.1 is answered with; else None
    cdef bint asks_websocket     # the request that comes will be an extended CONNECT
    cdef uint8_t n_interim       # 1xx answers so far

    cdef void wait(self) noexcept                    # there was progress
    cdef void fail_after(self, uint64_t limit_ms, int kind) noexcept     # unless it is less long that we wait
    cdef int ask_websocket(self, RequestHead head, const Outgoing* how) except -1    # send_request, of an upgrade
    cdef int submit(self, RequestHead head, const Outgoing* how, const char* protocol, bint has_body) noexcept
    cdef int take_head(self, bint is_end) except -1
    cdef void frame(self, ResponseHead head, bint is_end) noexcept
    cdef void end_body(self, Trailers trailers) noexcept
    cdef void settle_window(self) noexcept
    cdef size_t wanted_window(self) noexcept   # that lets the whole body through, and its end
    # How much wider the window becomes for an answer of `size` bytes.
    cdef size_t widening(self, size_t size) noexcept
    # The owner has taken so many bytes: as many more may come, unless all of the body had room from the first and
    # nothing but the body comes.
    cdef void give_back(self, size_t size) noexcept
    # Give the owner what it has room for; if that is less than `size`, we are paused or it is gone.
    cdef size_t pass_on(self, const char* data, size_t size) noexcept
    cdef void hold(self, const char* data, size_t size) noexcept
    cdef bint is_cut(self) noexcept            # nothing more of the client's can go into this tunnel
    cdef void note_reset(self, uint32_t code) noexcept     # the log tells why, if the origin has reset it
    cdef void on_timeout(self) noexcept


# As open_stream of connector, over HTTP/2. `asks_websocket`: it is ready when the origin's SETTINGS are known. If the
# origin chooses HTTP/1.1, owner.opened is another stream when on_connected comes.
cdef int open_h2_stream(Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner, bint asks_websocket) except -2
