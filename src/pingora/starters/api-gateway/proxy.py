"""An API gateway: clients show a key, paths lead to services, services learn who asks."""

import hmac
from typing import Any

from pingora import HttpPeer, LoadBalancer, ProxyHttp, RequestHead, Response, Session


def refused(status: int, reason: str) -> Response:
    """Make the answer to a request that goes nowhere."""
    return Response(status, {"content-type": "application/json"}, f'{{"error": "{reason}"}}\n'.encode())


class Gateway(ProxyHttp):
    """`keys` has a key by the name of who holds it, `routes` the addresses of a service by the prefix of its paths."""

    def __init__(self, keys: dict[str, str], routes: dict[str, list[str]]) -> None:
        self.keys = [(key.encode(), name) for name, key in keys.items()]
        self.routes = [(prefix, LoadBalancer(routes[prefix])) for prefix in sorted(routes, key=len, reverse=True)]

    def new_ctx(self) -> dict[str, Any]:
        """Make what a request knows of itself."""
        return {}

    def request_filter(self, session: Session, ctx: dict[str, Any]) -> Response | None:
        """Refuse who has no key, and paths without a service."""
        ctx["name"] = self.name_of(session.request.headers.get("x-api-key", ""))
        if ctx["name"] is None:
            return refused(401, "no key that is known, in x-api-key")
        ctx["service"] = next(
            (service for prefix, service in self.routes if session.request.path.startswith(prefix)), None
        )
        return refused(404, "no such service") if ctx["service"] is None else None

    def upstream_peer(self, session: Session, ctx: dict[str, Any]) -> HttpPeer:
        """Choose an endpoint of the service."""
        return HttpPeer(ctx["service"].select())

    def upstream_request_filter(self, session: Session, request: RequestHead, ctx: dict[str, Any]) -> None:
        """Tell the service who asks; the key stays here."""
        request.headers.remove("x-api-key")
        request.headers["x-consumer"] = ctx["name"]

    def name_of(self, key: str) -> str | None:
        """Say whose key it is, without telling by the time how much of one was right."""
        given = key.encode("latin-1")
        return next((name for known, name in self.keys if hmac.compare_digest(known, given)), None)
