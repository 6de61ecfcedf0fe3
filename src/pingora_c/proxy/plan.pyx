"""The plan of a proxy. Data only."""
cimport cython

PHASES = (
    "new_ctx", "early_request_filter", "request_filter", "proxy_upstream_filter", "upstream_peer",
    "connected_to_upstream", "upstream_request_filter", "upstream_response_filter", "response_filter",
    "fail_to_proxy", "logging",
)


@cython.final
cdef class Plan:
    """Made by ProxyService."""
