from typing import final

from _typeshed import WriteableBuffer

COUNTER_BYTES: int

@final
class Counters:
    def __init__(self, block: WriteableBuffer | None = None) -> None: ...
    def values(self) -> list[int]: ...
    def count_blocked_loop(self) -> None: ...
