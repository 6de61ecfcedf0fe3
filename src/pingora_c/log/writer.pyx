"""The log writer: ring, lock and the thread that empties the ring.

Owns the ring and a duplicate of the descriptor. Never raises to a producer, never waits for the GIL while it holds the
lock, never touches a Python object in the thread's loop.
"""
import os
import threading
import weakref

cimport cython
from libc.errno cimport EAGAIN, EINTR, ETIMEDOUT, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy
from posix.fcntl cimport F_SETFD, FD_CLOEXEC, fcntl
from posix.signal cimport sigfillset, sigset_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.uio cimport iovec, writev
from posix.unistd cimport close, dup2
from pingora_c.lib.poll cimport POLLOUT, poll, pollfd
from pingora_c.lib.pthread cimport (
    SIG_SETMASK, pthread_cond_broadcast, pthread_cond_destroy, pthread_cond_init, pthread_cond_signal,
    pthread_cond_timedwait, pthread_cond_wait, pthread_condattr_destroy, pthread_condattr_init,
    pthread_condattr_setclock, pthread_condattr_t, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock,
    pthread_mutex_unlock, pthread_sigmask)

cdef enum:
    RING_LEAST = 4096

# Every writer of the process, for the reset after a fork.
writers = weakref.WeakSet()


cdef timespec from_now(double seconds) noexcept nogil:
    cdef timespec now
    cdef long whole = <long>seconds
    clock_gettime(CLOCK_MONOTONIC, &now)
    now.tv_sec += whole
    now.tv_nsec += <long>((seconds - <double>whole) * 1e9)
    if now.tv_nsec >= 1000000000:
        now.tv_sec += 1
        now.tv_nsec -= 1000000000
    return now


cdef void init_locks(LogWriter self) noexcept nogil:
    cdef pthread_condattr_t attributes
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_mutex_init(&self.lock, NULL)
    pthread_cond_init(&self.has_work, &attributes)
    pthread_cond_init(&self.has_news, &attributes)
    pthread_condattr_destroy(&attributes)
    self.is_ready = True


cdef uint64_t line_ends(const char* data, size_t size) noexcept nogil:
    cdef uint64_t n = 0
    cdef const char* end = data + size
    cdef const char* found = <const char*>memchr(data, c"\n", size)
    while found != NULL:
        n += 1
        data = found + 1
        found = <const char*>memchr(data, c"\n", end - data)
    return n


cdef uint64_t line_ends_in_ring(LogWriter self, uint64_t start, uint64_t stop) noexcept nogil:
    """The same for the ring's positions start to stop."""
    cdef size_t at = start % self.capacity
    cdef size_t size = <size_t>(stop - start)
    cdef size_t first = min(self.capacity - at, size)
    return line_ends(self.ring + at, first) + line_ends(self.ring, size - first)


cdef uint64_t write_out(LogWriter self, uint64_t start, uint64_t stop) noexcept nogil:
    """Write the ring's positions start to stop; return where it ended, short of `stop` if a write failed."""
    cdef iovec parts[2]
    cdef size_t at, size, first
    cdef Py_ssize_t written
    cdef pollfd watched
    while start < stop:
        at = start % self.capacity
        size = <size_t>(stop - start)
        first = min(self.capacity - at, size)
        parts[0].iov_base = self.ring + at
        parts[0].iov_len = first
        parts[1].iov_base = self.ring
        parts[1].iov_len = size - first
        written = writev(self.fd, parts, 2 if size > first else 1)
        if written >= 0:
            start += <uint64_t>written
        elif errno == EAGAIN:
            watched.fd = self.fd
            watched.events = POLLOUT
            poll(&watched, 1, -1)
        elif errno != EINTR:
            break
    return start


cdef void gather(LogWriter self) noexcept nogil:
    """Let lines arrive for BATCH_MS, or until there are many or someone waits for them. The lock is held."""
    cdef timespec until = from_now(BATCH_MS / 1000.0)
    while not self.is_closing and self.flushing == 0 and self.put_at - self.taken_at < self.capacity // 4:
        if pthread_cond_timedwait(&self.has_work, &self.lock, &until) == ETIMEDOUT:
            return


cdef void write_batch(LogWriter self) noexcept nogil:
    """Take all that is in the ring and write it. The lock is held, and given up while writing."""
    cdef uint64_t start = self.taken_at
    cdef uint64_t stop = self.put_at
    cdef uint64_t reached
    self.taken_at = stop
    pthread_mutex_unlock(&self.lock)
    reached = write_out(self, start, stop)
    pthread_mutex_lock(&self.lock)
    self.byte_count += reached - start
    if reached < stop:
        # Full disk, reader gone, device error: the lines are lost and counted, the next batch tries again.
        self.error_count += 1
        self.dropped_count += line_ends_in_ring(self, reached, stop)
    self.written_at = stop
    pthread_cond_broadcast(&self.has_news)


cdef void write_loop(LogWriter self) noexcept nogil:
    """The thread: empty the ring until close() was called and nothing is left."""
    cdef sigset_t everything
    # Signals belong to the main thread; SIGPIPE must not end a process that restored its default action.
    sigfillset(&everything)
    pthread_sigmask(SIG_SETMASK, &everything, NULL)
    pthread_mutex_lock(&self.lock)
    while True:
        while self.put_at == self.taken_at and not self.is_closing:
            pthread_cond_wait(&self.has_work, &self.lock)
        if self.put_at == self.taken_at:
            break
        gather(self)
        write_batch(self)
    release_fd(self)
    self.is_running = False
    pthread_cond_broadcast(&self.has_news)
    pthread_mutex_unlock(&self.lock)


cdef void release_fd(LogWriter self) noexcept nogil:
    if self.fd >= 0:
        close(self.fd)
        self.fd = -1


cdef void wait_written(LogWriter self, uint64_t target, double timeout_s) noexcept nogil:
    """Wait until the thread has passed `target`, has ended, or the time is over. The lock is held."""
    cdef timespec until = from_now(timeout_s)
    self.flushing += 1
    pthread_cond_signal(&self.has_work)
    while self.is_running and self.written_at < target:
        if pthread_cond_timedwait(&self.has_news, &self.lock, &until) == ETIMEDOUT:
            break
    self.flushing -= 1


cdef void start_quietly(LogWriter self) noexcept nogil:
    with gil:
        try:
            self.start()
        except:  # noqa: E722
            pass  # No thread to be had now: the line stays in the ring, the next one tries again.
    if not self.is_running:
        self.error_count += 1


@cython.final
cdef class LogWriter:
    """A bounded, non-blocking line buffer in front of a file descriptor.

    `fd` is duplicated and may be closed at once. `capacity` is the size of the ring in bytes (at least 4096). Close the
    writer when it is no longer needed: its thread keeps it alive.
    """

    def __cinit__(self, int fd, size_t capacity=RING_BYTES):
        self.fd = -1
        self.capacity = max(capacity, <size_t>RING_LEAST)
        self.ring = <char*>malloc(self.capacity)
        if self.ring == NULL:
            raise MemoryError
        init_locks(self)
        self.fd = os.dup(fd)
        writers.add(self)

    def __dealloc__(self):
        release_fd(self)
        if self.is_ready:
            pthread_cond_destroy(&self.has_news)
            pthread_cond_destroy(&self.has_work)
            pthread_mutex_destroy(&self.lock)
        free(self.ring)

    def __enter__(self):
        """Return the writer itself."""
        return self

    def __exit__(self, kind, error, traceback):
        """Close the writer, waiting for at most a second."""
        self.close()

    cdef int put(self, const char* data, size_t size) noexcept nogil:
        cdef uint64_t used
        cdef uint64_t n_lines = line_ends(data, size) + (size > 0 and data[size - 1] != c"\n")
        cdef size_t at, first
        pthread_mutex_lock(&self.lock)
        if self.is_closing or size > self.capacity - (self.put_at - self.written_at):
            self.dropped_count += n_lines
            pthread_mutex_unlock(&self.lock)
            return 0
        at = self.put_at % self.capacity
        first = min(self.capacity - at, size)
        memcpy(self.ring + at, data, first)
        memcpy(self.ring, data + first, size - first)
        used = self.put_at - self.taken_at
        self.put_at += size
        self.line_count += n_lines
        if used == 0 or (used < self.capacity // 4 <= used + size):
            pthread_cond_signal(&self.has_work)
        pthread_mutex_unlock(&self.lock)
        if not self.is_running:
            start_quietly(self)
        return 1

    def write(self, line) -> bool:
        """Queue a line (bytes, or text that becomes UTF-8), its line end included; return False if it was dropped."""
        cdef const char* data
        cdef Py_ssize_t size
        if isinstance(line, str):
            line = (<str>line).encode("utf-8", "backslashreplace")
        elif not isinstance(line, bytes):
            raise TypeError(f"a line is bytes or str, not {type(line).__name__}")
        data = <bytes>line
        size = len(<bytes>line)
        return self.put(data, <size_t>size) == 1

    def start(self) -> None:
        """Start the thread if it does not run; the first line does so by itself."""
        pthread_mutex_lock(&self.lock)
        needs_thread = not self.is_running and not self.is_closing
        if needs_thread:
            self.is_running = True
        pthread_mutex_unlock(&self.lock)
        if not needs_thread:
            return
        self.thread = threading.Thread(target=self._run, name="pingora-log", daemon=True)
        try:
            self.thread.start()
        except BaseException:
            self.is_running = False
            self.thread = None
            raise

    def _run(self) -> None:
        with nogil:
            write_loop(self)

    def flush(self, double timeout=1.0) -> bool:
        """Wait until all lines queued so far are written or given up; return False after `timeout` seconds."""
        cdef bint is_done
        with nogil:
            pthread_mutex_lock(&self.lock)
            wait_written(self, self.put_at, timeout)
            is_done = self.written_at == self.put_at or not self.is_running
            pthread_mutex_unlock(&self.lock)
        return is_done

    def close(self, double timeout=1.0) -> bool:
        """Take no more lines, write what is queued and end the thread. May be called twice.

        Returns False if `timeout` seconds were not enough because the descriptor's reader stalls; the thread then ends
        by itself when the reader goes on, or with the process.
        """
        cdef bint is_done
        with nogil:
            pthread_mutex_lock(&self.lock)
            self.is_closing = True
            pthread_cond_signal(&self.has_work)
            wait_written(self, <uint64_t>-1, timeout)
            is_done = not self.is_running
            if is_done:
                release_fd(self)
            pthread_mutex_unlock(&self.lock)
        return is_done

    def reopen(self, int fd) -> None:
        """Write to (a duplicate of) `fd` from now on, lines still queued included: log rotation."""
        cdef bint is_open
        cdef int error = 0
        # The GIL is kept: released under the lock, a producer that holds it could wait for us and we for it. Nor can
        # another thread fork between the two calls. A write in progress ends on the old file.
        pthread_mutex_lock(&self.lock)
        is_open = self.fd >= 0
        if is_open:
            if dup2(fd, self.fd) < 0:
                error = errno
            else:
                fcntl(self.fd, F_SETFD, FD_CLOEXEC)
        pthread_mutex_unlock(&self.lock)
        if not is_open:
            raise ValueError("the log writer is closed")
        if error:
            raise OSError(error, os.strerror(error))

    def after_fork_in_child(self) -> None:
        """Forget the parent's thread, its queued lines (the parent writes them) and its counts."""
        init_locks(self)
        self.put_at = self.taken_at = self.written_at = 0
        self.flushing = 0
        self.is_running = False
        self.thread = None
        self.line_count = self.dropped_count = self.byte_count = self.error_count = 0

    @property
    def lines(self) -> int:
        """Lines accepted."""
        return self.line_count

    @property
    def dropped(self) -> int:
        """Lines lost: no room, writer closed, or their write failed."""
        return self.dropped_count

    @property
    def bytes(self) -> int:
        """Bytes written to the descriptor."""
        return self.byte_count

    @property
    def errors(self) -> int:
        """Writes that failed."""
        return self.error_count


def reset_in_child() -> None:
    """Give every writer of a forked child a fresh start."""
    for writer in list(writers):
        writer.after_fork_in_child()


os.register_at_fork(after_in_child=reset_in_child)
