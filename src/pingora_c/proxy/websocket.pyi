from collections.abc import Awaitable
from typing import Literal, final

from pingora_c.proxy.message_filter import MessageOwner

@final
class WebSocket(MessageOwner):
    """A WebSocket through the proxy, as hooks see it. Made by the core."""

    def send(
        self, direction: Literal["upstream", "downstream"], message: str | bytes | bytearray | memoryview
    ) -> Awaitable[None]:
        """Send a message of the proxy's own behind what went on before; await it, which bounds what waits."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close both sides; messages that are on their way are lost. Nothing happens if it was closed before."""

    @property
    def is_closed(self) -> bool:
        """True once a Close frame went to either side."""
