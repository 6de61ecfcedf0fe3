"""Opening streams by the protocol of a peer. Owns nothing."""
from pingora_c.h1.framing cimport ASKS_TUNNEL
from pingora_c.h1.upgrade cimport names_websocket
from pingora_c.proxy.h2_client cimport H2Group
from pingora_c.proxy.h2_client_stream cimport open_h2_stream
from pingora_c.proxy.h2_groups cimport find_group
from pingora_c.proxy.upstream_leg cimport open_h1_stream, open_raw_stream, reuse_h1
from pingora_c.upstream.h1_origins cimport origin_of
from pingora_c.upstream.peer cimport PEER_H1, PEER_H2H1


cdef int switch_of(RequestHead head, int upgrade) noexcept:
    if upgrade == 0:
        return SWITCH_NONE
    if upgrade == ASKS_TUNNEL:
        return SWITCH_TUNNEL
    return SWITCH_WEBSOCKET if names_websocket(&head.block) else SWITCH_OTHER


cdef int open_or_raise(
    Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner, bint may_reuse, int switch,
) except -2:
    cdef H2Group group
    if switch == SWITCH_TUNNEL:
        return open_raw_stream(reactor, pool, peer, owner)
    if peer.spoken == PEER_H1:
        return open_h1_stream(reactor, pool, peer, owner, may_reuse, False)
    if peer.spoken == PEER_H2H1:
        group = find_group(pool, peer, owner.greeting) if switch == SWITCH_WEBSOCKET else None
        if switch and (group is None or not group.takes_connect()):
            return open_h1_stream(reactor, pool, peer, owner, may_reuse, True)
        if may_reuse and pool.h1_origins.has(origin_of(peer)) and reuse_h1(pool, peer, owner):
            return 1
    return open_h2_stream(reactor, pool, peer, owner, switch == SWITCH_WEBSOCKET)


cdef int open_stream(
    Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner, bint may_reuse, int switch,
) noexcept:
    cdef int result = -1
    try:
        result = open_or_raise(reactor, pool, peer, owner, may_reuse, switch)
    except:
        pass   # ignored: no memory for the connection, the caller answers
    return result
