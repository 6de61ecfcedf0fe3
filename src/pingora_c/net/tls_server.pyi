from collections.abc import Hashable, Mapping
from typing import final

from pingora_c.net.tls_context import TlsRules
from pingora_c.net.tls_tickets import TicketKeys

@final
class Continuation:
    def go_on(self, future: object) -> None: ...

@final
class HostContext:
    def __init__(
        self,
        rules: TlsRules,
        certificates: tuple[tuple[tuple[bytes, ...], bytes, bytes | None, int | None], ...],
        *,
        names: frozenset[str],
        policy: Hashable,
        client_auth: tuple[tuple[bytes, ...], tuple[bytes, ...], bool] | None,
        scope: bytes,
        protocols: bytes,
    ) -> None: ...
    @property
    def policy(self) -> Hashable: ...
    @property
    def names(self) -> frozenset[str]: ...

@final
class ServerContext:
    def __init__(
        self,
        rules: TlsRules,
        *,
        tickets: TicketKeys | None,
        protocols: bytes,
        is_strict: bool,
        keeps_ja4: bool = False,
    ) -> None: ...
    def keep_chains(self) -> None: ...
    def hand_over(self, successor: ServerContext) -> None: ...
    def replace(self, hosts: Mapping[bytes, HostContext], fallback: HostContext) -> None: ...
    @property
    def fallback(self) -> HostContext: ...
