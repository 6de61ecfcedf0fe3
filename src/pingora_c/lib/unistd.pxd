"""Descriptors and processes of the C library."""
from libc.stddef cimport size_t

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    Py_ssize_t read(int fd, void* data, size_t size)
    Py_ssize_t write(int fd, const void* data, size_t size)
    int _SC_PAGESIZE
    int getpid()
    long sysconf(int name)
    int unlink(const char* path)
