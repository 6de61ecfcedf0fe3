"""Notices of what is refused before there is a request to log: at most a line per second and kind, with a number."""

import asyncio
import logging

from pingora_c.net.admission import Admission
from pingora_c.proxy.counter_names import COUNTER_NAMES
from pingora_c.stats.counters import Counters

log = logging.getLogger("pingora")

LOOK_S = 1.0
TEXTS = {
    'pingora_accept_pauses_total{reason="connections"}': "accepting pauses: Limits.connections are open",
    'pingora_accept_pauses_total{reason="descriptors"}': "accepting pauses: the process is short of descriptors",
    'pingora_connections_refused_total{reason="client_connections"}': (
        "connections refused: %(new)d beyond Limits.client_connections, the last of %(client)s"
    ),
}
PLACES = {name: [i for i, known in enumerate(COUNTER_NAMES) if known == name] for name in TEXTS}


class Notices:
    """Looks at the counters of TEXTS once a second and logs those that went up."""

    def __init__(self, counters: Counters, admission: Admission) -> None:
        self._counters = counters
        self._admission = admission
        self._seen = {name: self._count(name) for name in TEXTS}
        self._handle: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look from now on."""
        self._handle = loop.call_later(LOOK_S, self._again, loop)

    def stop(self) -> None:
        """Look a last time; may be called twice."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            self.look()

    def look(self) -> None:
        """Log what is new."""
        for name, text in TEXTS.items():
            if new := self._count(name) - self._seen[name]:
                log.warning(text, {"new": new, "client": self._admission.last_refused})
                self._seen[name] += new

    def _count(self, name: str) -> int:
        return sum(self._counters.value(place) for place in PLACES[name])

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        self.look()
        self.start(loop)
