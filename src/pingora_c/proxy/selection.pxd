"""The key that a balancer hashes for a request, when the core selects without a hook."""
from pingora_c.http.message cimport RequestHead
from pingora_c.proxy.downstream cimport H1Server
from pingora_c.upstream.balancer cimport Balancer

# As balancer.key_kind says; b"" where the request lacks it.
cdef bytes selection_key(Balancer balancer, RequestHead head, H1Server client)
