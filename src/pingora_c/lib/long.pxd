"""The value of a Python int."""

cdef extern from "Python.h":
    # `overflow` is 0 if it fits; raises nothing for an int
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) noexcept
