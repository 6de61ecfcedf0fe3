"""Bit counting by the compiler."""
cdef extern from * nogil:
    int __builtin_ctzll(unsigned long long word)
