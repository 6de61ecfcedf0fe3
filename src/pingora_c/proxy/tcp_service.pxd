"""A TcpProxy's service in one worker: what a ProxyService is, for connections whose bytes are not looked at."""
cimport cython
from pingora_c.proxy.service cimport ProxyService


@cython.final
cdef class TcpService(ProxyService):
    pass
