from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, final

from pingora_c.upstream.address import Address
from pingora_c.upstream.endpoint import Endpoint, FailureRules

KEY_KINDS: dict[str | None, int]

class NoUpstream(Exception): ...

class Selection:
    endpoints: tuple[Endpoint, ...]
    def pick(self, key: bytes, tried: int) -> Endpoint | int | None: ...
    def on_update(self, endpoints: tuple[Endpoint, ...]) -> None: ...

class Balancer:
    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        selection: Selection,
        *,
        key: str | None = None,
        failure_rules: FailureRules | None = None,
        peer_options: Any = None,
        may_be_empty: bool = False,
    ) -> None: ...
    @property
    def failure_rules(self) -> FailureRules | None: ...
    @property
    def peer_options(self) -> Any: ...
    @property
    def selection(self) -> Selection: ...
    @property
    def endpoints(self) -> tuple[Endpoint, ...]: ...
    key_kind: int
    key_name: bytes
    def select(self, key: bytes | str | None = None) -> Endpoint: ...
    def update(self, endpoints: Iterable[Endpoint]) -> None: ...
    def set_weight(self, address: str | Address, weight: int) -> None: ...
    def set_enabled(self, address: str | Address, is_enabled: bool) -> None: ...

@final
class SelectionScope: ...

selection_scope: ContextVar[SelectionScope | None]

def try_endpoint(scope: SelectionScope, endpoint: Endpoint) -> int: ...
