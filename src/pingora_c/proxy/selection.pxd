"""What is asked about the choice of a balancer: the key that a request is hashed by, and if an endpoint is left."""
from pingora_c.http.message cimport RequestHead
from pingora_c.proxy.server_connection cimport ServerConnection
from pingora_c.upstream.balancer cimport Balancer, SelectionScope
from pingora_c.upstream.endpoint cimport Endpoint

# As balancer.key_kind says; b"" where the request lacks it.
cdef bytes selection_key(Balancer balancer, RequestHead head, ServerConnection client)

# Whether the balancer of `present` has another endpoint left for an attempt; if a hook makes its peers itself, so that
# there is none, there may be.
cdef bint has_untried(Endpoint present, SelectionScope scope) noexcept
