from collections.abc import Iterable, Mapping
from typing import final

from pingora_c.http.header_map import HeaderMap

_Text = str | bytes
_Fields = Mapping[str, _Text] | Mapping[bytes, _Text] | Iterable[tuple[_Text, _Text]]

@final
class RequestHead:
    """The head of a request: method, target, version and header fields."""

    method: str
    """The method; case matters (RFC 9110 §9.1). It can be set to any token but CONNECT."""
    target: str
    """The request target as it was received or set (RFC 9112 §3.2)."""
    path: str
    """The target up to '?', without an absolute form's scheme and authority. Setting it keeps the query."""
    query: str
    """What follows '?' in the target, '' if nothing does. Setting it keeps the path; '' removes the '?'."""
    def __init__(self, method: _Text = "GET", target: _Text = "/", headers: _Fields | None = None) -> None: ...
    @property
    def target_bytes(self) -> bytes:
        """The request target as bytes."""

    @property
    def host(self) -> str:
        """The authority of an absolute target, else the value of Host, in lower case; '' if there is neither."""

    @property
    def version(self) -> str:
        """'1.0', '1.1', or '2' for what came over HTTP/2."""

    @property
    def headers(self) -> HeaderMap:
        """The header fields, as a map over this head."""

    def __copy__(self) -> RequestHead: ...

@final
class ResponseHead:
    """The head of a response: status, reason, version and header fields."""

    status: int
    """The status code. Setting it, 200 to 599, drops the reason, so that the standard phrase is sent."""
    def __init__(self, status: int = 200, headers: _Fields | None = None) -> None: ...
    @property
    def reason(self) -> str:
        """The reason phrase as received; '' stands for the standard one."""

    @property
    def version(self) -> str:
        """'1.0', '1.1', or '2' for what came over HTTP/2."""

    @property
    def headers(self) -> HeaderMap:
        """The header fields, as a map over this head."""

    def __copy__(self) -> ResponseHead: ...
