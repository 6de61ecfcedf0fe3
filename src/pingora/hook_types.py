"""What hooks take and give, as types: for editors and type checkers, which then flag a wrong return."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from pingora_c.proxy.message_filter import DropMessage, WebSocketClose
from pingora_c.proxy.response import Response

if TYPE_CHECKING:
    import typing_extensions  # its stub comes with the type checkers: it knows defaults, 3.11 does not

    Ctx = typing_extensions.TypeVar("Ctx", default=Any)
else:
    Ctx = TypeVar("Ctx")

T = TypeVar("T")

MaybeAsync: TypeAlias = T | Coroutine[Any, Any, T]  # of a hook that may be `def` or `async def`
Answer: TypeAlias = MaybeAsync[Response | None]
Chunk: TypeAlias = bytes | bytearray | memoryview
FilteredChunk: TypeAlias = MaybeAsync[Chunk | None]
FilteredRequestChunk: TypeAlias = MaybeAsync[Chunk | Response | None]
Direction: TypeAlias = Literal["upstream", "downstream"]
FilteredMessage: TypeAlias = MaybeAsync[str | Chunk | DropMessage | WebSocketClose | None]
