"""Upstreams that may choose by ALPN and do not take HTTP/2. What one speaks outlives the connections and groups that
found it out, which may be one client's or one tenant's, and is the same for all of them. Of the last 1,024.
"""
from pingora_c.upstream.peer cimport HttpPeer


cdef class H1Origins:
    cdef dict found          # origin_of -> whether it requires HTTP/1.1; what was noted last is last
    # `origin` is that of origin_of; of None nothing is known.
    cdef bint has(self, object origin) except -1         # it chose HTTP/1.1 last, or requires it
    cdef bint requires(self, object origin) except -1    # nothing else is offered any more
    # It chose HTTP/1.1, or answered HTTP_1_1_REQUIRED. Without memory it is found out again.
    cdef void note(self, object origin, bint is_required) noexcept
    cdef void forget(self, object origin) noexcept       # it chose HTTP/2: unless it requires HTTP/1.1


# Whom `peer` reaches, whatever else its connections must be; None unless it may choose.
cdef object origin_of(HttpPeer peer)
