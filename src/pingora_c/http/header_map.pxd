"""The Python face of a HeaderBlock.

`HeaderMap` is the Python face: a MutableMapping of str (latin-1) that keeps its owner alive. It refuses framing
fields (see `is_framing_name`).
"""
from libc.stdint cimport uint32_t
from pingora_c.http.header_block cimport HeaderBlock


cdef class HeaderMap:
    # Counted: the head (RequestHead, ResponseHead …) whose memory `block` points into, or None if `own` is used. The
    # collector does not visit
    # maps, so an owner never refers to a map over itself.
    cdef object owner
    cdef HeaderBlock* block   # borrowed from owner, or &self.own
    cdef HeaderBlock own
    cdef bint is_request      # the fields of a request: one Host, which is a valid one

    # A map over `block`, which lives inside `owner`.
    @staticmethod
    cdef HeaderMap over(object owner, HeaderBlock* block)
    cdef int write(self, object name, object value, bint is_set) except -1
    cdef int start(self) noexcept
    cdef Py_ssize_t find(self, object name) except -2
    cdef Py_ssize_t delete(self, object name) except -1
