"""The seam between protocols and sessions: a Stream is one side of one session, whatever carries it.

A Stream is a source of body bytes and a sink for them. It pushes what it decodes into its owner, and takes what it is
given without refusing; who feeds it asks is_full() and pauses the source until on_writable. Spans are borrowed until
the end of the turn. Trailers are None where a body has none.

One class for both sides: H1Stream, which decodes and frames bodies for both, could not be below two. What only a
client's or only an upstream's stream has stands apart; the others' does nothing.
"""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from pingora_c.h1.encode cimport Outgoing
from pingora_c.h1.framing cimport Framing
from pingora_c.http.message cimport RequestHead, ResponseHead
from pingora_c.http.trailers cimport Trailers

cdef enum:
    HIGH_WATER = 65536       # unsent bytes above which the source is paused


cdef class Stream


# What upstreams of HTTP/2 may send for the streams of one client's connection before it takes some, beside a narrow
# window of each stream. Nobody can take back what was promised before the stream has ended.
@cython.final
cdef class Allowance:
    cdef size_t promised
    cdef size_t left(self, size_t window) noexcept       # bytes that may be promised, `window` as below
    # Promise some of `size` bytes, all of `window` if it is the only one; 0: there is too little left. Give it back by
    # taking it from `promised`.
    cdef size_t promise(self, size_t size, size_t window) noexcept


cdef class StreamOwner:
    cdef bytes greeting      # what connections that open_stream makes begin with: HttpPeer.greeting
    cdef Stream opened       # the upstream stream that open_stream made last
    # `is_client`: the callback is about the client's side.
    cdef void on_body(self, bint is_client, const char* data, size_t size) noexcept
    cdef void on_body_end(self, bint is_client, Trailers trailers) noexcept
    cdef void on_writable(self, bint is_client) noexcept
    # Bytes that the next read of the upstream may bring; 0: none before on_writable of the client's side.
    cdef size_t room(self) noexcept
    cdef Allowance allowance(self)            # of the client's connection, None: it has but one stream
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
    # -- from a WebSocket
    cdef void on_passed(self, bint is_request, const char* data, size_t size) noexcept   # bytes that go on as they are
    # It is closed for this reason, a FailureKind; on_left follows. `error` of a hook and `detail` for logs, or None
    cdef void on_tunnel_failed(self, int kind, str detail, object error) noexcept
    cdef void on_left(self) noexcept          # both sides were told, and the session is over


cdef class Stream:
    cdef StreamOwner owner   # counted; None once the session let go
    cdef bint is_client      # this is the client's side
    cdef Framing framing     # of the body that comes; BODY_CHUNKED: its length is not known
    cdef bint body_done      # the whole body came
    cdef bint body_paused    # the owner takes no body now
    cdef bint awaits_continue   # of a client: it may wait for 100 Continue, of which nobody told it
    cdef bint was_told       # that it may go on, by us: the upstream's 100 Continue would be a second one
    cdef bint is_shared      # other streams use the same connection: one takes no more than its part
    cdef bint is_call        # of a client, over HTTP/2 on both sides: of gRPC
    cdef bint is_tunnel      # raw bytes both ways, each side ends on its own
    cdef str trouble         # why it failed, for logs; None: nothing is known
    cdef int send_body(self, const char* data, size_t size) noexcept  # 0, -1 without memory
    # The same for all of `body`, which is kept instead of copied if it is much; it stays until the turn's end anyway.
    cdef int send_kept(self, bytes body) noexcept
    cdef int send_end(self, Trailers trailers) noexcept               # the same
    cdef bint is_full(self) noexcept          # the peer takes nothing and more than HIGH_WATER bytes wait
    cdef size_t unsent(self) noexcept         # bytes that the peer has not taken
    cdef void press(self) noexcept            # write what waits if it is much, so that is_full() knows
    cdef void pause_body(self) noexcept
    cdef void resume_body(self) noexcept
    # The owner is done; `is_complete` only if the whole answer was written (client) or came (upstream).
    cdef void release(self, bint is_complete) noexcept

    # -- a client's
    cdef bint to_head        # the request's method is HEAD
    cdef bint close_after    # the connection ends with this exchange, or takes no further one
    # Write a final head, with the body's length or -1: not known. `is_upgrade`: a tunnel follows.
    cdef int send_head(self, ResponseHead head, int64_t length, bint is_upgrade) noexcept
    cdef int send_interim(self, ResponseHead head) noexcept
    cdef int send_continue(self) noexcept     # 100: the client may send its body (RFC 9110 §10.1.1)
    # StreamOwner.room for whoever feeds it
    cdef size_t room(self) noexcept
    cdef Allowance allowance(self)
    # whether the rest of the body, if there is one, can be read and thrown away before another exchange
    cdef bint can_drain(self) noexcept
    # whether the connection can carry another exchange after this one
    cdef bint is_reusable(self, bint is_complete) noexcept

    # -- an upstream's
    cdef const char* protocol    # what is spoken, "h1" or "h2"; NULL: bytes, of a tunnel
    cdef bint got_bytes      # some byte of an answer came
    cdef bint head_done      # a final head came
    cdef int send_request(self, RequestHead head, const Outgoing* how) noexcept    # 0, -1 without memory
    # The request's body ended too early: the origin sees that, and its answer still comes.
    cdef void cut_request(self) noexcept
    cdef void read_largely(self) noexcept     # the owner takes whatever a read brings
    cdef void ask_room(self) noexcept         # of the owner, before each read or whatever comes
