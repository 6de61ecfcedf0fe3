from collections.abc import Iterable, Mapping
from typing import final

from pingora_c.http.header_map import HeaderMap

@final
class Response:
    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        body: bytes | str = b"",
    ) -> None: ...
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> HeaderMap: ...
    @property
    def body(self) -> bytes: ...
