"""The hook `websocket_message` on the messages of one direction of a WebSocket, in order, each done before the next.

While the hook awaits, or the receiver takes nothing, the source is paused and what one read brought waits. Pings and
pongs pass without the hook, in their place in the order.

    feed* -> source_ended; stop() or close() from anywhere
"""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from pingora_c.net.timer cimport Timer
from pingora_c.proxy.hook_context cimport HookContext
from pingora_c.proxy.stream cimport Stream
from pingora_c.ws.deflate cimport DeflateTerms
from pingora_c.ws.message cimport MessageReader, MessageWriter


cdef class MessageOwner:
    """What a filter tells. `is_request`: about messages on their way upstream."""
    cdef void on_frame(self, bint is_request, bytes frame) noexcept            # it goes on
    cdef void on_close(self, bint is_request, bytes payload) noexcept          # the sender's Close frame
    cdef void on_bad_message(self, bint is_request, int event) noexcept        # a negative MessageEvent or WsResult
    cdef void on_hook_failed(self, int kind, object error) noexcept            # a FailureKind; error None: a time limit
    cdef void on_close_asked(self, int code, bytes reason) noexcept            # by the hook
    cdef void on_idle(self, bint is_request) noexcept                          # nothing waits any more


@cython.final
cdef class MessageFilter:
    cdef MessageOwner owner      # None once closed
    cdef HookContext hooks
    cdef Stream source           # paused while the hook awaits
    cdef Stream sink
    cdef bint is_request
    cdef MessageReader reader
    cdef MessageWriter writer
    cdef Timer timer             # limit of the hook that awaits
    cdef object task             # the hook that awaits, else None
    cdef bint has_timed_out
    cdef object message          # that the hook has, str or bytes
    cdef bint was_compressed     # it came so
    cdef bytes rest              # what came behind it, None: nothing
    cdef size_t rest_at          # how much of it is done
    cdef size_t used             # of what is read now
    cdef bint is_yielding        # others have their turn; `rest` follows from the loop
    cdef bint source_ended
    cdef bint is_stopped         # messages go no further: only a Close frame of the sender is looked for
    cdef uint64_t n_messages
    cdef list waiting            # futures of `send`, until there is room

    @staticmethod
    cdef MessageFilter new(MessageOwner owner, HookContext hooks, Stream source, Stream sink, bint is_request,
                           const DeflateTerms* terms)
    cdef void feed(self, const char* data, size_t size) noexcept
    cdef bint go_on(self) noexcept           # with what waits, if it may; True: nothing waits any more
    cdef bint is_idle(self) noexcept
    # Frame a message of `session.websocket`. Raises for a text that is no Unicode.
    cdef bytes frame_of(self, object message, bint compress)
    cdef bytes control_frame(self, int opcode, bytes payload)
    cdef void wake_senders(self) noexcept    # the sink has room
    cdef void stop(self) noexcept            # a Close frame went this way
    cdef void close(self) noexcept
    # private
    cdef size_t read(self, const char* data, size_t size) noexcept
    cdef object caught(self, const char* data, size_t size)
    cdef int run(self, const char* data, size_t size) except -1
    cdef int keep(self, const char* data, size_t size) except -1
    cdef int call_hook(self) except -1
    cdef object taken(self)
    cdef int settle(self, object result) except -1
    cdef int pass_control(self) except -1
    cdef int wait_for(self, object task) except -1
    cdef void cancel(self) noexcept
