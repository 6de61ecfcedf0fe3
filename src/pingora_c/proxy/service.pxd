"""A proxy object's service in one worker: its listeners, its client connections, the plan its sessions share."""
from pingora_c.lib.socket cimport sockaddr_storage
from pingora_c.proxy.downstream cimport Application
from pingora_c.proxy.plan cimport Plan


cdef class ProxyService(Application):
    cdef Plan plan
    cdef object proxy
    cdef tuple trusted           # networks whose X-Forwarded-* fields are kept
    cdef set servers             # open client connections
    cdef list listeners
    cdef bint trusts(self, str client) except -1
    cdef int accept_or_raise(self, int fd, const sockaddr_storage* address) except -1
