from typing import final

PHASES: tuple[str, ...]

@final
class Plan:
    @property
    def name(self) -> str: ...
    @property
    def proxy(self) -> object: ...
