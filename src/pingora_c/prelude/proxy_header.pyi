from typing import TypeAlias

from typing_extensions import Buffer

_Ip: TypeAlias = tuple[bytes, int] | None
_Place: TypeAlias = _Ip | bytes
_Header: TypeAlias = tuple[int, bool, _Place, _Place, tuple[tuple[int, bytes], ...]]

def parse(data: Buffer) -> tuple[int, _Header | None]: ...
def encode(version: int, source: _Ip = None, destination: _Ip = None) -> bytes: ...
def reason(code: int) -> str: ...
