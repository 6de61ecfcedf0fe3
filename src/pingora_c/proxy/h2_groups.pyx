"""Groups of HTTP/2 connections by the key of the pool. Owns nothing."""
from pingora_c.proxy.h2_client cimport ASSUMED_STREAMS
from pingora_c.upstream.h1_origins cimport origin_of


cdef object key_of(HttpPeer peer, bytes greeting):
    return peer.key if greeting is None else (peer.key, greeting)


cdef H2Group find_group(Pool pool, HttpPeer peer, bytes greeting):
    return <H2Group>pool.shared.get(key_of(peer, greeting))


cdef H2Group group_of(Reactor reactor, Pool pool, HttpPeer peer, bytes greeting):
    cdef H2Group group = find_group(pool, peer, greeting)
    if group is None:
        group = H2Group.__new__(H2Group)
        group.reactor = reactor
        group.pool = pool
        group.key = key_of(peer, greeting)
        group.origin = origin_of(peer)
        group.greeting = greeting
        group.clients = []
        group.waiting = []
        group.capacity = ASSUMED_STREAMS
        group.most = peer.max_h2_streams
        group.most_clients = peer.max_h2_connections
        pool.shared[group.key] = group
    return group
