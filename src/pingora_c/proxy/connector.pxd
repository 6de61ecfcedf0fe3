"""The door to upstreams: which protocol a stream is opened over."""
from pingora_c.http.message cimport RequestHead
from pingora_c.net.reactor cimport Reactor
from pingora_c.proxy.stream cimport StreamOwner
from pingora_c.upstream.peer cimport HttpPeer
from pingora_c.upstream.pool cimport Pool

cdef enum Switch:
    SWITCH_NONE = 0
    SWITCH_WEBSOCKET = 1     # HTTP/2 has a way for it, too, where the upstream announces it (RFC 8441)
    SWITCH_OTHER = 2         # only HTTP/1.1 has
    SWITCH_TUNNEL = 3        # none: nothing is sent but what the client sends

# What a request asks for; `upgrade` is that of its Framing.
cdef int switch_of(RequestHead head, int upgrade) noexcept

# Open a stream to `peer` into owner.opened: over a connection that is there if `may_reuse` (1: it is ready at once),
# else 0: on_connected or on_failure follows. -1 if no socket could be made or the connect failed at once, -3 if there
# is no descriptor for one. `switch`: the protocol that the request asks to go over to.
cdef int open_stream(
    Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner, bint may_reuse, int switch,
) noexcept
