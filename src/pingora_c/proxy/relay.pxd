"""The relay pump: body bytes from one side of a session to the other, whatever the protocols, at the pace of the
receiver. Filters, replay and `read_body` are stages on the way; phases and retries are decided in its subclasses,
Phases, Attempts and Exchange: four concerns of one object, since an object for each would cost an allocation and a
cycle.

    client -> (replay) -> (read_body | request filter) -> upstream
    upstream -> (response filter) -> client
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.http.message cimport RequestHead, ResponseHead
from pingora_c.http.trailers cimport Trailers
from pingora_c.proxy.body_filter cimport BodyFilter
from pingora_c.proxy.hook_context cimport HookContext
from pingora_c.proxy.plan cimport Plan
from pingora_c.proxy.replay cimport Replay
from pingora_c.proxy.server_connection cimport ServerConnection
from pingora_c.proxy.stream cimport Allowance, Stream, StreamOwner
from pingora_c.proxy.websocket cimport WebSocket


cdef class Relay(StreamOwner):
    cdef Plan plan
    cdef ServerConnection server      # the client's
    cdef Stream down                  # to the client
    cdef Stream up                    # to the upstream, None while there is none
    cdef HookContext hooks            # None before the first hook, and at the end
    cdef BodyFilter request_bodies    # filter of this attempt's request body, None: none
    cdef BodyFilter response_bodies
    cdef WebSocket websocket          # of a tunnel that is one, else None
    cdef Replay replay                # of the request body; None: nothing is kept
    cdef object reader                # future of `read_body`, None while nobody waits
    cdef object drained               # future of who writes a Response's body and waits for room
    cdef Trailers request_trailers    # came with a body that is kept
    cdef bint passes_request          # a hook wants this request's body unfiltered
    cdef bint passes_response
    cdef bint request_sent
    cdef bint response_sent           # a final head went to the client
    cdef bint may_be_read             # what streams the answer may still ask for the request's body
    cdef uint8_t body_failure         # FailureKind of what ended the request's body early, OK: nothing did
    cdef bint upstream_ended          # the answer came to its end
    cdef bint answers_bare            # the client gets no body, whatever comes: HEAD, 204, 205, 304
    cdef uint64_t body_limit          # of the request's body, in bytes: 413
    cdef uint64_t received_bytes
    cdef uint64_t sent_bytes

    # -- the request's body
    cdef void keep_body(self) noexcept          # from now on, for a retry
    cdef void send_kept_body(self) noexcept     # after the head: what is kept, then the rest as it comes
    cdef void forward(self, const char* data, size_t size) noexcept
    cdef void forward_end(self, Trailers trailers) noexcept
    cdef void to_upstream(self, const char* data, size_t size) noexcept
    cdef void end_upstream(self, Trailers trailers) noexcept
    cdef bint can_replay(self) noexcept         # the body, as far as it came, can be sent again
    cdef void finish_reading(self, int kind) noexcept      # with the body, or as this FailureKind says
    cdef bint has_too_much(self) noexcept       # the body, as far as it came or as its head says, is past body_limit
    # -- the answer's body
    cdef void to_client(self, const char* data, size_t size) noexcept
    cdef void keep_to_client(self, bytes chunk) noexcept
    cdef void end_client(self, Trailers trailers) noexcept
    cdef void drop_filters(self, bint is_request) noexcept
    # A tunnel begins with this answer. False: the upstream agreed to what was not offered, and on_failure was called.
    cdef bint open_websocket(self, RequestHead request, ResponseHead response) except -1
    cdef void drop_websocket(self) noexcept
    cdef int end_reading(self, object error) except -1     # tell whoever waits for the body, if anybody does
    cdef void end_waiting(self) noexcept        # tell whoever waits for the body or for room that the session has ended
    # -- overridden
    cdef void fail(self, int kind) noexcept
    cdef void finish(self) noexcept
    cdef void on_body_read(self) noexcept       # read_body is done: the limit of the hook counts again
