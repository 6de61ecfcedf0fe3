from collections.abc import AsyncIterable, Iterable, Mapping
from typing import final

from pingora_c.http.header_map import HeaderMap
from pingora_c.proxy.session import Session

_Text = str | bytes

@final
class Response:
    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, _Text] | Iterable[tuple[_Text, _Text]] | None = None,
        body: bytes | str | AsyncIterable[bytes] = b"",
    ) -> None: ...
    @property
    def status(self) -> int: ...  # 200 to 599
    @property
    def headers(self) -> HeaderMap: ...
    @property
    def body(self) -> bytes: ...
    @property
    def stream(self) -> AsyncIterable[bytes] | None: ...

async def leave(stream: AsyncIterable[bytes]) -> None: ...
async def send_all(session: Session, stream: AsyncIterable[bytes]) -> None: ...
