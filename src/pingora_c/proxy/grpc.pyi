from pingora_c.http.message import RequestHead
from pingora_c.proxy.response import Response

def probe(
    request_head: RequestHead, response: Response | None = None, reason: bytes | None = None
) -> tuple[bool, int, Response | None]: ...
