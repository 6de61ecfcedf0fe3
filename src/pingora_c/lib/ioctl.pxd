"""Requests to sockets of the C library."""

cdef extern from "<sys/ioctl.h>" nogil:
    unsigned long TIOCOUTQ      # bytes of a socket that its peer has not taken: an int
    int ioctl(int fd, unsigned long request, ...)
