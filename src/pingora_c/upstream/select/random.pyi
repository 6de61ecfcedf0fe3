from typing import final

from pingora_c.upstream.endpoint import Endpoint
from pingora_c.upstream.select.weighted import Weighted

def seed(value: int | None = None) -> None: ...

@final
class Random(Weighted):
    def pick(self, key: bytes, tried: int) -> Endpoint | None: ...
