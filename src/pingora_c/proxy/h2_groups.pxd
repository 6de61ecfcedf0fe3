"""The groups of a pool: one is made for the first stream that needs a connection, and leaves the pool with the last
connection or stream. `greeting` is that of the PROXY protocol, so that the connections serve one client only, or None.
"""
from pingora_c.net.reactor cimport Reactor
from pingora_c.proxy.h2_client cimport H2Group
from pingora_c.upstream.peer cimport HttpPeer
from pingora_c.upstream.pool cimport Pool

# The one that there is, or None.
cdef H2Group find_group(Pool pool, HttpPeer peer, bytes greeting)
# The same, or a new one: whoever asks gives it a stream, or calls H2Group.go_if_unused.
cdef H2Group group_of(Reactor reactor, Pool pool, HttpPeer peer, bytes greeting)
