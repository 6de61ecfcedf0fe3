from typing import final

PHASES: tuple[str, ...]

@final
class Plan:
    @property
    def proxy(self) -> object: ...
