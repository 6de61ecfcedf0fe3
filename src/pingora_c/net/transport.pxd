"""How bytes get to and from a peer: one small interface, so that no state machine asks whether there is TLS
(DESIGN rule 4).
"""
from libc.stddef cimport size_t
from pingora_c.lib.socket cimport iovec

cdef enum IoCode:
    IO_WOULD_BLOCK = -1
    IO_EOF = -2          # the peer ended the stream properly (FIN; with TLS: close_notify)
    IO_TRUNCATED = -3    # it ended without the proper mark (TLS without close_notify)
    IO_ERROR = -4        # see `error`


cdef class Transport:
    cdef int fd          # owned, -1 once closed
    cdef int error       # errno of the last IO_ERROR

    # Up to `room` bytes into `out`: their number (> 0) or an IoCode.
    cdef Py_ssize_t read(self, char* out, size_t room) noexcept
    # Take bytes of `vector` in order; the number taken (> 0) or IO_WOULD_BLOCK or IO_ERROR.
    cdef Py_ssize_t write(self, iovec* vector, int count) noexcept
    # End our side of the stream; the other direction stays open.
    cdef void shutdown(self) noexcept
    # Close the descriptor. May be called twice.
    cdef void close(self) noexcept
    # Close so that the peer sees a reset instead of an end.
    cdef void reset(self) noexcept
    # Bytes already received and decrypted wait inside the transport.
    cdef bint has_pending(self) noexcept


cdef class PlainTransport(Transport):
    @staticmethod
    cdef PlainTransport new(int fd)
