from collections.abc import Hashable
from typing import final

from pingora_c.upstream.address import Address
from pingora_c.upstream.endpoint import Endpoint

@final
class HttpPeer:
    def __init__(
        self,
        target: Endpoint | str,
        *,
        connect_timeout: float = 5.0,
        read_timeout: float = 60.0,
        group: Hashable = None,
    ) -> None: ...
    @property
    def address(self) -> Address: ...
    @property
    def endpoint(self) -> Endpoint | None: ...
    @property
    def connect_timeout_ms(self) -> int: ...
    @property
    def read_timeout_ms(self) -> int: ...
    @property
    def group(self) -> Hashable: ...
