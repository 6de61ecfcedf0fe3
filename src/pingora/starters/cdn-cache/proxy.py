"""An edge of a CDN: a URL's own origin answers, a standby with older copies if that fails, and files never change."""

import json
import logging
import re
from collections.abc import Iterable
from typing import Any

from pingora import HttpPeer, LoadBalancer, ProxyError, ProxyHttp, ResponseHead, Session

log = logging.getLogger("pingora.edge")

# A name with a hash in it, as bundlers write them: another content would have another name.
HASHED = re.compile(r"[.-][0-9a-f]{8,}\.[a-z0-9]+$")
IMMUTABLE = "public, max-age=31536000, immutable"


class Edge(ProxyHttp):
    """`standby` has the addresses of origins that are asked when a URL's own fails; without, another of the ring."""

    def __init__(self, standby: Iterable[str] = ()) -> None:
        self.standby = LoadBalancer(list(standby)) if standby else None

    def new_ctx(self) -> dict[str, Any]:
        """Make what a request knows of itself: how often it failed, and who answers."""
        return {"failures": 0, "from": "origin"}

    def upstream_peer(self, session: Session, ctx: dict[str, Any]) -> HttpPeer:
        """Choose the origin of the URL, or the standby."""
        if ctx["failures"] and self.standby is not None:
            ctx["from"] = "standby"
            return HttpPeer(self.standby.select(), connect_timeout=1.0)
        return HttpPeer(self.upstreams.select(session.request.target), connect_timeout=1.0)

    def fail_to_connect(self, session: Session, peer: HttpPeer, error: ProxyError, ctx: dict[str, Any]) -> None:
        """Have the standby asked next."""
        self.note_failure(session, error, ctx)

    def error_while_proxy(
        self, session: Session, peer: HttpPeer, error: ProxyError, reused: bool, ctx: dict[str, Any]
    ) -> None:
        """Have the standby asked next, where the rules of [retry] allow another attempt."""
        self.note_failure(session, error, ctx)

    def response_filter(self, session: Session, response: ResponseHead, ctx: dict[str, Any]) -> None:
        """Say who answered. What origins say of caching passes; where they say nothing, a hashed name says it."""
        response.headers["x-served-by"] = ctx["from"]
        if response.status == 200 and "cache-control" not in response.headers and HASHED.search(session.request.path):
            response.headers["cache-control"] = IMMUTABLE

    def note_failure(self, session: Session, error: ProxyError, ctx: dict[str, Any]) -> None:
        """Write an event, a line of JSON in the error log."""
        ctx["failures"] += 1
        event = {"event": "origin_failed", "path": session.request.path, "reason": error.reason}
        log.warning("%s", json.dumps(event))
