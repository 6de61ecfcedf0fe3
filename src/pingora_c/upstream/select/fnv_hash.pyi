from typing import final

from pingora_c.upstream.endpoint import Endpoint
from pingora_c.upstream.select.weighted import Weighted

@final
class FnvHash(Weighted):
    def pick(self, key: bytes, tried: int) -> Endpoint | None: ...
