from typing import Any, final

BLOCK_BYTES: int
COUNTERS_AT: int
N_COUNTERS: int
KINDS: dict[str, int]
CELLS: dict[str, int]

@final
class Block:
    def __new__(cls, memory: Any, is_writable: bool) -> Block: ...

def records_of(memory: Any) -> list[tuple[int, bytes, int, int]]: ...
def end_gauges(memory: Any) -> None: ...
