"""The door to upstreams: which protocol a stream is opened over."""
from pingora_c.net.reactor cimport Reactor
from pingora_c.proxy.stream cimport StreamOwner
from pingora_c.upstream.peer cimport HttpPeer
from pingora_c.upstream.pool cimport Pool

# Open a stream to `peer` into owner.opened: over a connection that is there if `may_reuse` (1: it is ready at once),
# else 0: on_connected or on_failure follows. -1 if no socket could be made or the connect failed at once, -3 if there
# is no descriptor for one. `to_upgrade`: the request asks for another protocol, which HTTP/1.1 has a way for.
cdef int open_stream(
    Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner, bint may_reuse, bint to_upgrade,
) noexcept
