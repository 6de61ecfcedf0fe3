from collections.abc import Sequence
from typing import final

@final
class FieldTable:
    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None: ...
