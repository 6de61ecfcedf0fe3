"""A request over HTTP/2 to an origin: one stream of a connection that others share.

A stream whose session does not read holds at most `HttpPeer.h2_window` bytes, and never stops its neighbours: the
window of the connection is always given back, its own only for what the session took.
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
from pingora_c.proxy.stream cimport StreamOwner
from pingora_c.upstream.peer cimport HttpPeer
from pingora_c.upstream.pool cimport Pool


cdef class H2ClientStream(H2Carried):
    cdef HttpPeer peer
    cdef Timer timer             # of the connect while it waits, then of what the exchange waits for
    cdef uint32_t wait_ms        # after this long without progress it is looked which limit is meant
    cdef uint64_t waits_since_ms     # last progress
    cdef ByteQueue held          # body that came while it was paused
    cdef size_t owed             # bytes that the owner has, for which the window was not given back
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
    cdef void on_timeout(self) noexcept


# As open_stream of connector, over HTTP/2. `asks_websocket`: it is ready when the origin's SETTINGS are known. If the
# origin chooses HTTP/1.1, owner.opened is another stream when on_connected comes.
cdef int open_h2_stream(Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner, bint asks_websocket) except -2
