"""ForwardProxy: tunnels and plain requests for clients that use a proxy, to destinations that are written down."""

import asyncio
import re
import socket
from collections.abc import Iterable
from ipaddress import ip_address

from pingora.destinations import Destinations, IpAddress, literal, plain
from pingora.hook_types import Ctx
from pingora.proxy import ProxyHttp
from pingora_c.http.message import RequestHead
from pingora_c.proxy.failure import ProxyError
from pingora_c.proxy.response import Response
from pingora_c.proxy.session import Session
from pingora_c.upstream.balancer import NoUpstream
from pingora_c.upstream.peer import HttpPeer

PORT = re.compile(r":[0-9]+$")
LOOKUPS_MOST = 256  # names that are looked up at once


class ForwardProxy(ProxyHttp[Ctx]):
    """A proxy that clients are configured to use: CONNECT opens a tunnel, `GET http://host/` is asked there.

    `allowed` are the destinations of both, see Destinations; without entries all is refused. Override `request_filter`
    to decide more: who the client is (407), what he may reach, by `session.request.target`, "host:port" of a tunnel, a
    URL of a request. Credentials for the proxy (`proxy-authorization`) go no further. The addresses of a name are tried
    one after the other, `RetryPolicy.attempts` of them. Times in seconds: to look a name up, and to connect. Override
    `lookup` to resolve names in your own way. Raises ValueError for an entry that makes no sense.
    """

    takes_connect = True

    def __init__(self, allowed: Iterable[str], *, lookup_timeout: float = 5.0, connect_timeout: float = 5.0) -> None:
        self.allowed = Destinations(allowed)
        self.lookup_timeout = lookup_timeout
        self.connect_timeout = connect_timeout
        self._lookups = 0

    async def upstream_peer(self, session: Session, ctx: Ctx) -> HttpPeer | Response:
        """Look up where it is to go, and refuse what is not allowed."""
        authority = authority_of(session.request)
        if authority is None:
            return Response(405, {"allow": "CONNECT"}, "this proxy opens tunnels (CONNECT), and asks for http://…\n")
        host, _, digits = authority.lower().rpartition(":")
        host, port = host.removeprefix("[").removesuffix("]").removesuffix("."), int(digits)
        session.request.headers.pop("proxy-authorization", None)
        if not self.allowed.may_hold(host, port):
            return refusal()
        addresses = [one for one in await self._resolve(host, port) if self.allowed.hold(host, port, one)]
        if not addresses:
            return refusal()
        address = addresses[session.attempts % len(addresses)]
        text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        return HttpPeer(text, connect_timeout=self.connect_timeout)

    async def lookup(self, host: str, port: int) -> list[str]:
        """Give the addresses of a name, as texts. Raises OSError. Default: what the system's resolver says."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        texts = [str(row[4][0]) for row in found]
        return [text for text in texts if "%" not in text]  # a scope is of a link, where no tunnel leads

    async def _resolve(self, host: str, port: int) -> list[IpAddress]:
        """Give the addresses of a host. Raises ProxyError, or NoUpstream if too many are looked up already."""
        address = literal(host)
        if address is not None:
            return [address]
        if self._lookups >= LOOKUPS_MOST:
            raise NoUpstream(f"{LOOKUPS_MOST} names are being looked up")
        self._lookups += 1
        try:
            async with asyncio.timeout(self.lookup_timeout):
                found = [plain(ip_address(text)) for text in await self.lookup(host, port)]
        except TimeoutError:
            raise ProxyError("connect_timeout", "upstream", 504) from None
        except OSError as error:
            raise ProxyError("connect_failed", "upstream", 502) from error
        finally:
            self._lookups -= 1
        return list(dict.fromkeys(found))


def authority_of(request: RequestHead) -> str | None:
    """Give "host:port" of the tunnel or the URL that is asked for; None for what is neither.

    In HTTP/2 a URL for a proxy and one for a server look the same, so only tunnels are taken.
    """
    if request.method == "CONNECT":
        return request.target
    if request.version == "2" or request.target[:7].lower() != "http://":
        return None
    authority = request.target[7:].partition("/")[0].partition("?")[0]
    return authority if PORT.search(authority) else authority.removesuffix(":") + ":80"


def refusal() -> Response:
    """Say that a destination is not allowed."""
    return Response(403, {"content-type": "text/plain"}, "this proxy does not go there\n")
