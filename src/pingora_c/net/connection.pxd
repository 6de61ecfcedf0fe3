"""A connection: one socket with its transport, the bytes received but not yet understood, and the bytes not yet taken
by the peer.

Reading. A turn reads into the reactor's scratch and hands the bytes to `on_bytes`, which says how many it used. What
it leaves is kept in `pending`
(pooled) and shown again, contiguous with what follows, at the next turn. An idle connection holds no buffer.

Writing. `reserve`/`commit` put bytes into the connection's own queue; `write` borrows a span until the end of the
turn. Both leave together, in order, in
one system call at the flush at the end of the turn; what the socket does not take is copied into the queue, and
`on_writable` comes when it has drained.
Write errors are reported by `on_broken` from the ready list, never inside the caller's write.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.base.flag cimport flag
from pingora_c.lib.socket cimport iovec
from pingora_c.mem.byte_queue cimport ByteQueue
from pingora_c.net.reactor cimport EventSource, Reactor
from pingora_c.net.timer cimport Timer
from pingora_c.net.transport cimport Transport

cdef enum:
    READ_SMALL = 65536       # what a read may bring while the receiver may leave bytes over
    READS_PER_TURN = 16
    BYTES_PER_TURN = 262144
    JOINED_SIZE = 512        # bytes that are copied behind what is queued: a span of their own in a write costs more


cdef class Connection(EventSource):
    cdef Transport transport
    cdef char* pending           # owned, NULL while empty; pooled if pending_cap <= BUFFER_LARGE, else malloc'ed
    cdef uint32_t pending_at
    cdef uint32_t pending_size
    cdef uint32_t pending_cap
    cdef flag asks_room          # room() says before each read how many bytes it may bring
    cdef ByteQueue out           # what could not be written yet
    cdef size_t read_limit       # bytes one read may bring, <= SCRATCH_SIZE
    cdef uint64_t bytes_read
    cdef uint64_t bytes_written
    cdef Timer timer             # one per connection; subclasses say what it stands for in on_timeout
    cdef flag can_read           # an edge was seen and the socket not drained since
    cdef flag saw_hangup         # RDHUP, HUP or ERR was seen: a short read does not mean drained
    cdef flag saw_reset          # ERR was seen: behind the end of stream, which was read or is to be, comes nothing
    cdef flag saw_eof            # the peer's end of stream was read
    cdef flag is_paused          # do not read: the receiver has no room or no use for bytes now
    cdef flag is_blocked         # the socket takes nothing; an OUT edge will come
    cdef flag watches_writing    # registered for OUT edges: with a handshake, else once it was blocked
    cdef flag is_broken          # a write failed; nothing is written any more
    cdef flag lacks_memory       # what waits to be written, or what came, found no room: the peer knows nothing
    cdef flag is_ending          # what waits to be written is the last
    cdef flag is_closed
    cdef flag resets             # close with RST
    cdef flag in_turn            # inside read_turn
    cdef flag is_opening         # the transport shakes hands: nothing is read or written

    # Take over the descriptor and register. -1: out of descriptors or memory; the caller closes it.
    cdef int open(self, Reactor reactor, Transport transport) noexcept
    # The socket is connected: shake hands if the transport needs that, then on_open; else on_open_failed.
    cdef void open_transport(self) noexcept

    # -- for the owner
    # room for `size` <= MAX_RESERVE bytes, NULL without memory
    cdef char* reserve(self, size_t size) noexcept
    cdef void commit(self, size_t size) noexcept                # `size` bytes were written at reserve()'s place
    cdef int write(self, const char* data, size_t size) noexcept    # borrowed to the turn's end; -1 without memory
    # like write, but copies its size <= SMALL_SIZE bytes
    cdef int write_small(self, const char* data, size_t size) noexcept
    cdef int write_copy(self, const char* data, size_t size) noexcept
    # the first `size` bytes of `body`, which is kept until they have left
    cdef int write_kept(self, bytes body, size_t size) noexcept
    cdef size_t unsent(self) noexcept                           # bytes queued or gathered
    cdef void pause(self) noexcept
    cdef void resume(self) noexcept                             # reading goes on in a turn of its own
    # While paused: read on, behind what is kept; an end is told at once, before what is kept is shown.
    # False: none came, or there is no room for more.
    cdef bint look_ahead(self) noexcept
    cdef void shutdown_write(self) noexcept                     # after what is queued has left
    cdef void close(self) noexcept                              # drop everything, may be called twice
    cdef void reset(self) noexcept                              # the same with RST
    # The socket goes on as `successor`, which was not opened; nothing may wait to be written. We are dead afterwards.
    cdef void hand_over(self, Connection successor) noexcept

    # -- from below, overridden
    cdef void on_open(self) noexcept
    cdef void on_open_failed(self, int code) noexcept           # an IoCode of the handshake
    # Bytes that the next read may bring, 0: none, and we are paused.
    cdef size_t room(self) noexcept
    cdef size_t on_bytes(self, const char* data, size_t size) noexcept   # bytes used, <= size
    # IO_EOF, IO_TRUNCATED or IO_ERROR was read; bytes left in pending are shown before
    cdef void on_end(self, int code) noexcept
    cdef void on_writable(self) noexcept                        # the queue drained after it was blocked
    cdef void on_broken(self) noexcept                          # writing failed, or bytes are lost: lacks_memory
    # FIN or (is_reset) RST arrived while we do not read, or RST behind FIN
    cdef void on_hangup(self, bint is_reset) noexcept
    cdef void on_timeout(self) noexcept

    # -- private
    cdef flag wants_shutdown
    cdef flag has_shut           # our FIN was sent
    cdef void open_turn(self) noexcept
    cdef void read_turn(self) noexcept
    cdef void end_reading(self, int code) noexcept
    cdef void lose_bytes(self) noexcept                         # there was no memory to keep them
    cdef void consume_pending(self) noexcept
    cdef int keep(self, const char* data, size_t size) noexcept
    cdef int make_room(self) noexcept
    cdef void free_pending(self) noexcept
    cdef bint copy_rest(self, iovec* spans, int count, size_t queued, size_t taken) noexcept
    cdef void after_write_error(self, bint lacks_memory) noexcept
    cdef Py_ssize_t read_transport(self, char* place, size_t room) noexcept
    cdef void flush_before_reuse(self) noexcept
    cdef void detach(self) noexcept
