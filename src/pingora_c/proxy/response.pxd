"""Response: an answer made by a hook."""
cimport cython
from pingora_c.http.message cimport ResponseHead


@cython.final
cdef class Response:
    cdef ResponseHead head
    cdef readonly bytes body      # b"" if it is streamed
    @staticmethod
    cdef Response of(ResponseHead head)      # without a body
    # A head of its own with the same body; MemoryError.
    cdef Response copy(self)
    cdef readonly object stream   # asynchronous iterator of the body, or None
