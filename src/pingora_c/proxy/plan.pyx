"""The plan of a proxy. Data only."""
cimport cython

PHASES = (
    "new_ctx", "on_connection_reuse", "early_request_filter", "request_filter", "proxy_upstream_filter",
    "upstream_peer", "fail_to_connect", "connected_to_upstream", "upstream_request_filter", "request_body_filter",
    "upstream_response_filter", "upstream_response_body_filter", "upstream_response_trailer_filter",
    "response_filter", "response_body_filter", "response_trailer_filter", "websocket_message", "error_while_proxy",
    "fail_to_proxy", "suppress_error_log", "request_summary", "logging", "persist_connection_context",
)


@cython.final
cdef class Plan:
    """Made by `make_plan` of pingora_c.proxy.service."""

    def __cinit__(self):
        self.websockets = set()

    cdef void tell_idle(self) noexcept:
        cdef object on_idle = self.on_idle
        self.on_idle = None
        try:
            self.loop.call_soon(on_idle)
        except:
            pass   # ignored: the loop is closing
