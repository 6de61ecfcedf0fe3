"""A bounded line buffer in front of a file descriptor: who logs never waits, whatever the descriptor does.

Producers (any thread, with or without the GIL) copy whole lines into a ring; one background thread writes them with
write(2), without ever taking the GIL while it runs. A line that finds no room is dropped and counted. The thread is
woken when the ring stops being empty, then gathers lines for up to BATCH_MS or until a quarter of the ring is used,
so that a line costs its producer a memcpy under a short lock.

The writer keeps a private duplicate of the descriptor it is given: the caller may close its own at once. Files, pipes
and terminals behave the same, also if someone set O_NONBLOCK on them. After a fork the child's copy is empty, counts
from zero and starts a thread of its own at its next line; os.register_at_fork does this, no call is needed.

Ring invariants, under `lock`: written_at <= taken_at <= put_at and put_at - written_at <= capacity; the byte of
position p is ring[p % capacity].
"""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from pingora_c.lib.pthread cimport pthread_cond_t, pthread_mutex_t

cdef enum:
    RING_BYTES = 1048576   # default capacity
    BATCH_MS = 20          # the longest a line waits for others


@cython.final
cdef class LogWriter:
    cdef char* ring                # owned; capacity bytes
    cdef size_t capacity
    cdef int fd                    # owned: private duplicate; -1 once closed
    cdef pthread_mutex_t lock      # guards all below; held for copies and counts, never over a call that may block
    cdef pthread_cond_t has_work   # to the thread: lines, a flush or the end
    cdef pthread_cond_t has_news   # from the thread: written_at moved or it ended
    cdef uint64_t put_at           # bytes ever put
    cdef uint64_t taken_at         # bytes ever taken into a batch by the thread
    cdef uint64_t written_at       # bytes ever written or given up
    cdef size_t flushing           # callers inside flush(); > 0 ends the gathering
    cdef bint is_running           # the thread was started and has not ended
    cdef bint is_closing           # no more lines are taken; the thread ends when the ring is empty
    cdef bint is_ready             # lock and conditions are initialised
    cdef uint64_t line_count       # lines accepted by put
    cdef uint64_t dropped_count    # lines lost: no room, closed, or their write failed
    cdef uint64_t byte_count       # bytes written to the descriptor
    cdef uint64_t error_count      # writes that failed
    cdef object thread             # the threading.Thread that runs the loop; None before its start
    cdef object __weakref__

    # Queue `size` bytes (a whole line with its "\n", or several) and return 1; or drop them all and return 0. Either
    # way each line is counted, a last one without its end too. Never blocks, never raises; callable with or without
    # the GIL (the first line takes it, to start the thread).
    cdef int put(self, const char* data, size_t size) noexcept nogil
