from collections.abc import Sequence

_Pairs = Sequence[tuple[bytes, bytes]]
_Framing = dict[str, str | int | bool]

def request_body(fields: _Pairs, minor: int = 1) -> _Framing | int: ...
def response_body(
    fields: _Pairs,
    status: int,
    minor: int = 1,
    to_head: bool = False,
    to_connect: bool = False,
    to_upgrade: bool = False,
) -> _Framing | int: ...
