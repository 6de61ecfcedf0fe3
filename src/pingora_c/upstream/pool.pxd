"""Idle upstream connections of a service, by the whole set of connect options. Last in, first out, so that pools
shrink by themselves.
"""
from pingora_c.net.connection cimport Connection
from pingora_c.upstream.h1_origins cimport H1Origins


# Connections of one key that several sessions use at a time, idle or not.
cdef class ConnectionGroup:
    cdef int close(self) except -1      # overridden


cdef class Pool:
    cdef dict shared          # key -> ConnectionGroup; the groups keep themselves in it
    cdef H1Origins h1_origins
    cdef dict idle            # key -> list of Connection, never empty
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t limit
    # The most recently used idle connection for `key`, or None.
    cdef Connection take(self, object key)
    # Keep an idle connection. False if the pool is full: the caller closes it.
    cdef bint give(self, object key, Connection connection) except -1
    # It ended while idle.
    cdef int forget(self, object key, Connection connection) except -1
    cdef int close(self) except -1
