from typing import final

from pingora_c.net.tls_context import TlsRules

@final
class KeptSession: ...

@final
class ClientContext:
    def __init__(
        self,
        rules: TlsRules,
        *,
        verifies: bool,
        ca: tuple[bytes, ...],
        crls: tuple[bytes, ...],
        ca_places: tuple[bytes | None, bytes | None],
        certificate: tuple[tuple[bytes, ...], bytes] | None,
        protocols: bytes,
    ) -> None: ...
    @property
    def verifies(self) -> bool: ...
    @property
    def n_sessions(self) -> int: ...
