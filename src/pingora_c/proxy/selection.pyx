"""Selection keys. Reads the request, owns nothing."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from pingora_c.http.field cimport NAME_HOST, Field
from pingora_c.http.header_block cimport block_field, block_find, block_find_known
from pingora_c.lib.tuple cimport PyTuple_GET_ITEM
from pingora_c.upstream.balancer cimport KEY_CLIENT_IP, KEY_HOST, KEY_URI, owner_of
from pingora_c.upstream.endpoint cimport peer_available


cdef bytes selection_key(Balancer balancer, RequestHead head, ServerConnection client):
    cdef Py_ssize_t i
    cdef uint32_t size
    cdef Field* field
    if balancer.key_kind == KEY_CLIENT_IP:
        return client.client_ip[:client.client_ip_size]
    if balancer.key_kind == KEY_URI:
        return head.block.base[head.target.at:head.target.at + head.target.size]
    if balancer.key_kind == KEY_HOST:
        i = block_find_known(&head.block, NAME_HOST, 0)
    else:
        size = <uint32_t>PyBytes_GET_SIZE(balancer.key_name)
        i = block_find(&head.block, PyBytes_AS_STRING(balancer.key_name), size, 0)
    if i < 0:
        return b""
    field = block_field(&head.block, <uint32_t>i)
    return head.block.base[field.value_at:field.value_at + field.value_size]


cdef bint has_untried(Endpoint present, SelectionScope scope) noexcept:
    cdef Balancer balancer = None
    cdef Endpoint endpoint
    cdef uint64_t tried
    cdef Py_ssize_t i
    try:
        balancer = None if present is None else owner_of(present)
    except:
        pass   # ignored: to call a weak reference fails only without memory
    if balancer is None:
        return True
    tried = 0 if scope is None or scope.balancer is not balancer else scope.tried
    for i in range(PyTuple_GET_SIZE(balancer.endpoints)):
        endpoint = <Endpoint>PyTuple_GET_ITEM(balancer.endpoints, i)
        if endpoint is not present and peer_available(endpoint, tried):
            return True
    return False
