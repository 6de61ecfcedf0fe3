class ProxyError(Exception):
    reason: str
    source: str
    status: int
    retry: bool
    detail: str | None
    def __init__(self, reason: str, source: str, status: int) -> None: ...

class SessionEnded(Exception): ...
