"""What the proxy answers by itself, by status: pages that were configured, else the status and the reason in a line.

The same pages serve sessions that failed and messages that no session saw.
"""
cimport cython
from pingora_c.proxy.response cimport Response

cdef enum:
    PAGE_HEAD_ROOM = 16384       # of a configured page's head
    LAST_ANSWER_MOST = 16384     # of a last answer, head included: a new socket takes that at once


@cython.final
cdef class ErrorPages:
    cdef dict pages              # status -> Response, never given out itself
    cdef bytes reason_header     # name of the field that tells the reason; None: none does
    # An answer of the caller's own.
    cdef Response page(self, int status, const char* reason)
    # `response` if there is no reason (NULL) or no field that tells it, else a copy with it: a hook may keep its
    # Response and use it again.
    cdef Response with_reason(self, Response response, const char* reason)
    cdef Response plain_page(self, int status, const char* reason)     # the one that nobody configured
    # The page with the reason as an answer of HTTP/1.1 that ends its connection, for a single write: if it is larger
    # than LAST_ANSWER_MOST, the plain page in its place.
    cdef bytes last_answer(self, int status, const char* reason)
