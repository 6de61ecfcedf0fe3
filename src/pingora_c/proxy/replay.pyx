"""Replay buffers. Own their memory, which grows with the body up to a limit."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
from pingora_c.mem.buffer_pool cimport pool_release, pool_reserve

cdef enum:
    FIRST_ROOM = 4096


@cython.final
cdef class Replay:
    """Made by the core."""

    def __dealloc__(self):
        free(self.data)
        pool_release(self.reserved)

    @staticmethod
    cdef Replay new(size_t limit):
        cdef Replay replay = Replay.__new__(Replay)
        replay.limit = limit
        return replay

    cdef int append(self, const char* data, size_t size) noexcept:
        cdef size_t room = self.room
        cdef char* grown
        if self.has_overflowed or self.size + size > self.limit:
            self.drop()
            return -1
        if self.size + size > room:
            room = max(2 * room, self.size + size, <size_t>FIRST_ROOM)
            grown = NULL
            if pool_reserve(room - self.room):
                self.reserved += room - self.room
                grown = <char*>realloc(self.data, room)
            if grown == NULL:
                self.lacks_memory = True
                self.drop()
                return -1
            self.data = grown
            self.room = room
        memcpy(self.data + self.size, data, size)
        self.size += size
        return 0

    cdef bytes complete(self):
        if self.whole is None:
            self.whole = PyBytes_FromStringAndSize(self.data, self.size)
            free(self.data)
            self.data = NULL
            self.room = 0
        return self.whole

    cdef const char* bytes_at(self) noexcept:
        if self.whole is not None:
            return PyBytes_AS_STRING(self.whole)
        return self.data

    cdef void drop(self) noexcept:
        free(self.data)
        pool_release(self.reserved)
        self.data = NULL
        self.size = self.room = self.reserved = 0
        self.has_overflowed = True
