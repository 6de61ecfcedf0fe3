from typing import final

@final
class ClientHello:
    @property
    def server_name(self) -> str | None: ...
    @property
    def alpn(self) -> tuple[str, ...]: ...
    @property
    def ciphers(self) -> tuple[int, ...]: ...
    @property
    def extensions(self) -> tuple[int, ...]: ...
    @property
    def signature_algorithms(self) -> tuple[int, ...]: ...  # numbers of those that it accepts, in its order
    @property
    def version(self) -> int: ...
    @property
    def ja4(self) -> str: ...

def make_ja4(
    *,
    version: int,
    has_name: bool,
    alpn: tuple[str, ...],
    ciphers: tuple[int, ...],
    extensions: tuple[int, ...],
    signature_algorithms: tuple[int, ...],
) -> str: ...
