from typing import final

PHASES: tuple[str, ...]

@final
class Plan: ...
