"""How bytes get to and from a peer: one small interface, so that no state machine asks whether there is TLS
(DESIGN rule 4).
"""
from libc.stddef cimport size_t
from pingora_c.base.flag cimport flag
from pingora_c.lib.socket cimport iovec

cdef enum IoCode:
    IO_WOULD_BLOCK = -1
    IO_EOF = -2          # the peer ended the stream properly (FIN; with TLS: close_notify)
    IO_TRUNCATED = -3    # it ended without the proper mark (TLS without close_notify)
    IO_ERROR = -4        # see `error` and failure()
    IO_UNTRUSTED = -5    # of handshake(): the peer's certificate was refused


cdef class Tie:
    """What whoever holds the other end of a pair of sockets and we tell each other: a pair knows no reset."""
    cdef public bint has_ended       # its end is a proper one; else it was cut
    cdef readonly bint was_reset     # we cut it


cdef class Transport:
    cdef int fd          # owned, -1 once closed
    cdef int error       # errno of the last IO_ERROR
    cdef Tie tie         # of a socket of a pair; None: the socket itself tells all
    cdef flag needs_handshake    # nothing is read or written before handshake() gave 0
    cdef flag is_secure  # what goes over the wire is encrypted
    cdef flag checks_host        # requests must pass serves_host()
    cdef flag was_reset  # a write found the connection reset; no read will tell of that any more
    cdef flag is_last    # nothing follows the next write but the end, whose mark may leave with it

    # Go on with the handshake: 0 once it is over, else an IoCode. After IO_WOULD_BLOCK call again at the next event.
    cdef int handshake(self) noexcept
    # Up to `room` bytes into `out`: their number (> 0) or an IoCode.
    cdef Py_ssize_t read(self, char* out, size_t room) noexcept
    # Take bytes of `vector` in order; the number taken (> 0) or IO_WOULD_BLOCK or IO_ERROR. What was not taken is given
    # again, unchanged and first, at the next call.
    cdef Py_ssize_t write(self, iovec* vector, int count) noexcept
    # End our side of the stream; the other direction stays open.
    cdef void shutdown(self) noexcept
    # End the stream properly and close the descriptor. May be called twice.
    cdef void close(self) noexcept
    # Close so that the peer sees a reset instead of an end.
    cdef void reset(self) noexcept
    # After a read that did not fill its room: another one may give something although the socket was drained.
    cdef bint has_pending(self) noexcept
    # Whether requests for `host` (Host without port, lower case; of size 0: the one that the connection was opened for)
    # may come over this connection (RFC 9110 §7.4).
    cdef bint serves_host(self, const char* host, size_t size) noexcept
    # Whether ALPN chose `protocol` (RFC 7301).
    cdef bint has_chosen(self, const char* protocol, size_t size) noexcept
    # What hooks see of the encryption, None without.
    cdef object describe(self)
    # Why the handshake or a read failed, for the error log; None if errno says it all.
    cdef str failure(self)


cdef class PlainTransport(Transport):
    @staticmethod
    cdef PlainTransport new(int fd)
