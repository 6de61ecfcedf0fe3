from typing import Any, final

from pingora_c.upstream.address import Address

@final
class Endpoint:
    def __init__(
        self,
        address: Address | str,
        weight: int = 1,
        *,
        name: str | None = None,
        tls: Any = None,
        server_name: str | None = None,
    ) -> None: ...
    is_enabled: bool
    is_healthy: bool
    @property
    def address(self) -> Address: ...
    @property
    def name(self) -> str: ...
    @property
    def tls(self) -> Any: ...
    @property
    def server_name(self) -> str | None: ...
    @property
    def weight(self) -> int: ...
    @property
    def slot(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def started(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def is_available(self) -> bool: ...
