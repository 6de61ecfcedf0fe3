"""The pool. Owns references to idle connections; they tell it themselves when they end."""
cimport cython


cdef class ConnectionGroup:
    cdef int close(self) except -1:
        return 0


@cython.final
cdef class Pool:
    def __cinit__(self, Py_ssize_t limit=512):
        self.shared = {}
        self.idle = {}
        self.h1_origins = H1Origins.__new__(H1Origins)
        self.limit = limit

    cdef Connection take(self, object key):
        cdef list waiting = <list>self.idle.get(key)
        cdef Connection connection
        if waiting is None:
            return None
        connection = <Connection>waiting.pop()
        self.size -= 1
        if not waiting:
            del self.idle[key]
        return connection

    cdef bint give(self, object key, Connection connection) except -1:
        cdef list waiting
        if self.size >= self.limit:
            return False
        waiting = <list>self.idle.get(key)
        if waiting is None:
            waiting = self.idle[key] = []
        waiting.append(connection)
        self.size += 1
        return True

    cdef int forget(self, object key, Connection connection) except -1:
        cdef list waiting = <list>self.idle.get(key)
        if waiting is not None and connection in waiting:
            waiting.remove(connection)
            self.size -= 1
            if not waiting:
                del self.idle[key]
        return 0

    cdef int close(self) except -1:
        cdef dict idle = self.idle
        cdef list waiting
        cdef ConnectionGroup group
        for group in list(self.shared.values()):
            group.close()
        self.shared = {}
        self.idle = {}
        self.size = 0
        for waiting in idle.values():
            for connection in waiting:
                (<Connection>connection).close()
        return 0
