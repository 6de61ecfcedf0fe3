"""What upstreams speak that may choose. Owns keys, and so the Transport objects in them; knows no connection."""
cimport cython

from pingora_c.upstream.peer cimport PEER_H2H1

cdef enum:
    ORIGINS_MOST = 1024


@cython.final
cdef class H1Origins:
    def __cinit__(self):
        self.found = {}

    cdef bint has(self, object origin) except -1:
        return bool(self.found) and origin in self.found

    cdef bint requires(self, object origin) except -1:
        return bool(self.found) and self.found.get(origin, False)

    cdef void note(self, object origin, bint is_required) noexcept:
        if origin is None:
            return
        try:
            is_required = self.found.pop(origin, False) or is_required
            if len(self.found) >= ORIGINS_MOST:
                del self.found[next(iter(self.found))]
            self.found[origin] = is_required
        except:
            pass   # ignored: it is found out again

    cdef void forget(self, object origin) noexcept:
        try:
            if self.found.get(origin) is False:
                del self.found[origin]
        except:
            pass   # ignored: connections are opened one for each request, until the next one chooses


cdef object origin_of(HttpPeer peer):
    return (peer.address.text, peer.sni, peer.transport) if peer.spoken == PEER_H2H1 else None
