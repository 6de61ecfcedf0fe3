from typing import final

from pingora_c.http.header_map import HeaderMap

@final
class Trailers:
    @property
    def headers(self) -> HeaderMap: ...
