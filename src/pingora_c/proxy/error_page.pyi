from collections.abc import Mapping
from typing import final

from pingora_c.proxy.response import Response

@final
class ErrorPages:
    def __init__(self, pages: Mapping[int, Response], reason_header: str | None) -> None: ...
