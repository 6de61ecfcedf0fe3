from collections.abc import Awaitable
from typing import Literal, final

from pingora_c.proxy.message_filter import MessageOwner

@final
class WebSocket(MessageOwner):
    def send(
        self, direction: Literal["upstream", "downstream"], message: str | bytes | bytearray | memoryview
    ) -> Awaitable[None]: ...
    def close(self, code: int = 1000, reason: str = "") -> None: ...
    @property
    def is_closed(self) -> bool: ...
