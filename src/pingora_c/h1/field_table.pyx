"""Field tables made in Python. Own their text."""
cimport cython

from libc.stdint cimport uint8_t
from pingora_c.http.field cimport recognise


@cython.final
cdef class FieldTable:
    """The rows of (name, value) pairs, at most 80."""

    def __cinit__(self, pairs):
        cdef Field* field
        cdef bytes name
        at = 0
        self.text = b"".join([name + value for name, value in pairs])
        if len(pairs) > 80:
            raise ValueError("more than 80 fields")
        for name, value in pairs:
            field = &self.rows[self.n]
            field.name_at = at
            field.name_size = len(name)
            field.value_at = at + len(name)
            field.value_size = len(value)
            field.known = <uint8_t>recognise(<const char*>name, <size_t>len(name))
            field.flags = 0
            at += len(name) + len(value)
            self.n += 1
