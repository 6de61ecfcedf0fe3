from typing import final

OPENSSL: str

@final
class TlsRules:
    def __init__(
        self, *, versions: tuple[int, int], ciphers: bytes, suites: bytes, groups: tuple[bytes, ...]
    ) -> None: ...
    @property
    def ciphers(self) -> bytes: ...
    @property
    def suites(self) -> bytes: ...
    @property
    def groups(self) -> bytes: ...
