class ProxyError(Exception):
    reason: str
    source: str
    status: int
    def __init__(self, reason: str, source: str, status: int) -> None: ...
