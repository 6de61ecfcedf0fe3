class ProxyError(Exception):
    """Why a session failed, as hooks see it."""

    reason: str
    """Machine-readable: "connect_failed", "upstream_timeout" …"""
    source: str
    """Where: "upstream", "downstream" or "internal"."""
    status: int
    """What the client is told by default; 0: nothing can be told."""
    retry: bool
    """Whether another attempt follows; `fail_to_connect` and `error_while_proxy` may set it."""
    detail: str | None
    """A text for logs that says more, or None."""
    def __init__(self, reason: str, source: str, status: int) -> None: ...

class SessionEnded(Exception): ...
