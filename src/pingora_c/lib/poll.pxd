"""Waiting for one descriptor."""
cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    int POLLOUT
    int poll(pollfd* watched, unsigned long count, int timeout_ms)
