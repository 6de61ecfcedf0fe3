"""Session: what hooks see of an Exchange, made for the first hook that runs. It holds the exchange, so whatever of it a
hook keeps shows that session for ever.
"""
cimport cython
from pingora_c.proxy.exchange cimport Exchange


@cython.final
cdef class Session:
    cdef Exchange exchange


cdef object new_session(object exchange)     # for Plan
