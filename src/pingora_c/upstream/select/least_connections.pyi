from typing import final

from pingora_c.upstream.balancer import Selection
from pingora_c.upstream.endpoint import Endpoint

@final
class LeastConnections(Selection):
    def pick(self, key: bytes, tried: int) -> Endpoint | None: ...
