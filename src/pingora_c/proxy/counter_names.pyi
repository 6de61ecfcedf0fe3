NEVER_REFUSED: tuple[str, ...]
COUNTER_NAMES: tuple[str, ...]
