from typing_extensions import Buffer

from pingora_c.http.message import RequestHead, ResponseHead

def load_request(data: Buffer) -> RequestHead: ...
def load_response(data: Buffer) -> ResponseHead: ...
def request_bytes(
    head: RequestHead,
    framing: str = "none",
    length: int = 0,
    is_upgrade: bool = False,
    close: bool = False,
    keep_alive: bool = False,
    client: bytes | None = None,
    proto: bytes = b"http",
    is_trusted: bool = False,
) -> bytes: ...
def response_bytes(
    head: ResponseHead,
    framing: str = "none",
    length: int = 0,
    is_upgrade: bool = False,
    close: bool = False,
    keep_alive: bool = False,
) -> bytes: ...
def chunk_line(size: int, is_first: bool = False) -> bytes: ...
def phrase(status: int) -> str: ...
