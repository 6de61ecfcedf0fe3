from typing import final

@final
class Admission:
    def set_limits(self, connections: int, client_connections: int) -> None: ...
    @property
    def last_refused(self) -> str | None: ...
