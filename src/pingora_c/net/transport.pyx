"""Plain TCP and Unix-socket transport. Owns its descriptor; removing it from epoll before is the connection's part."""
cimport cython

from libc.string cimport memset
from pingora_c.lib.errno cimport EAGAIN, ECONNRESET, EINTR, errno
from pingora_c.lib.socket cimport (
    MSG_NOSIGNAL, SHUT_WR, SO_LINGER, SOL_SOCKET, msghdr, recv, send, sendmsg, setsockopt, shutdown as shutdown_fd,
)
from pingora_c.lib.unistd cimport close as close_fd


@cython.final
cdef class Tie:
    """What one end of a pair of sockets tells the other beside bytes: `has_ended`, that its end is no cut."""


cdef class Transport:
    cdef int handshake(self) noexcept:
        return 0

    cdef Py_ssize_t read(self, char* out, size_t room) noexcept:
        return IO_ERROR

    cdef Py_ssize_t write(self, iovec* vector, int count) noexcept:
        return IO_ERROR

    cdef void shutdown(self) noexcept:
        pass

    cdef void close(self) noexcept:
        if self.fd >= 0:
            close_fd(self.fd)
            self.fd = -1

    cdef void reset(self) noexcept:
        cdef int linger[2]
        if self.tie is not None:
            self.tie.was_reset = True
        if self.fd >= 0:
            linger[0] = 1
            linger[1] = 0
            setsockopt(self.fd, SOL_SOCKET, SO_LINGER, linger, sizeof(linger))
        self.close()

    cdef bint has_pending(self) noexcept:
        return False

    cdef bint serves_host(self, const char* host, size_t size) noexcept:
        return True

    cdef bint has_chosen(self, const char* protocol, size_t size) noexcept:
        return False

    cdef object describe(self):
        return None

    cdef str failure(self):
        return None

    def __dealloc__(self):
        if self.fd >= 0:
            close_fd(self.fd)


@cython.final
cdef class PlainTransport(Transport):
    @staticmethod
    cdef PlainTransport new(int fd):
        cdef PlainTransport self = PlainTransport.__new__(PlainTransport)
        self.fd = fd
        return self

    def __cinit__(self):
        self.fd = -1

    cdef Py_ssize_t read(self, char* out, size_t room) noexcept:
        cdef Py_ssize_t got
        while True:
            got = recv(self.fd, out, room, 0)
            if got > 0:
                return got
            if got == 0:
                if self.was_reset:
                    return IO_ERROR
                return IO_EOF if self.tie is None or self.tie.has_ended else IO_TRUNCATED
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                return IO_WOULD_BLOCK
            self.error = errno
            return IO_ERROR

    cdef Py_ssize_t write(self, iovec* vector, int count) noexcept:
        cdef Py_ssize_t taken
        cdef msghdr message
        memset(&message, 0, sizeof(message))
        message.msg_iov = vector
        message.msg_iovlen = count
        while True:
            if count == 1:
                taken = send(self.fd, vector.iov_base, vector.iov_len, MSG_NOSIGNAL)
            else:
                taken = sendmsg(self.fd, &message, MSG_NOSIGNAL)
            if taken >= 0:
                return taken
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                return IO_WOULD_BLOCK
            self.error = errno
            self.was_reset = errno == ECONNRESET
            return IO_ERROR

    cdef void shutdown(self) noexcept:
        shutdown_fd(self.fd, SHUT_WR)
