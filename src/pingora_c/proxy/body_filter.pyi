import asyncio
from typing import Any, Self, final

class LastChunk(bytes):
    def __new__(cls, data: bytes | bytearray | memoryview = b"") -> Self: ...

@final
class BodyFilter:
    def on_task_done(self, task: asyncio.Future[Any]) -> None: ...
    def continue_with(self, task: asyncio.Future[Any]) -> BaseException | None: ...
