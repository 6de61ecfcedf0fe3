class Timings:
    connect_ms: float
    first_byte_ms: float
    head_ms: float
    hooks_ms: float
    total_ms: float
    def __init__(
        self,
        started_us: int,
        head_us: int,
        connect_at_us: int,
        connected_us: int,
        first_byte_us: int,
        ended_us: int,
        hooks_us: int,
    ) -> None: ...
