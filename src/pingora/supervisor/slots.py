"""Which listening sockets a worker accepts from.

Each slot has an owner. A worker polls its own slots, and also those of a worker that shows no sign of life: the kernel
goes on queueing clients to the sockets of the dead and the stuck.
"""

import asyncio
import socket

from pingora.serving import Serving
from pingora.supervisor.board import Board, now_ms
from pingora_c.net.listener import Listener

BEAT_S = 0.025  # between two signs of life, and two looks at those of others
BEATS_PER_SAMPLE = 20
STALE_MS = 100  # without a sign of life, until others accept from a worker's slots


class Slots:
    """The listeners of a worker, by slot. Nothing is accepted before `start()`."""

    def __init__(self, serving: Serving, sockets: dict[str, list[socket.socket]], board: Board, worker: int) -> None:
        self._serving = serving
        self._board = board
        self._worker = worker
        self._beats = 0
        self._watched: set[int] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._find(sockets)

    def _find(self, sockets: dict[str, list[socket.socket]]) -> None:
        self._shared: list[Listener] = []  # sockets that exist once, for all workers
        self._by_slot: dict[int, list[Listener]] = {}
        for of_address in sockets.values():
            for slot, sock in enumerate(of_address):
                listener = self._serving.listeners.get(sock)
                if listener is not None:
                    places = self._shared if len(of_address) == 1 else self._by_slot.setdefault(slot, [])
                    places.append(listener)

    def add(self, sockets: dict[str, list[socket.socket]]) -> None:
        """Listen to sockets that an address has got in addition: more workers share it."""
        for site, service in zip(self._serving.server.sites, self._serving.services, strict=False):
            for sock in site.sockets:
                if sock not in self._serving.listeners:
                    self._serving.listen(service, sock, site)
        self.update(sockets)

    def update(self, sockets: dict[str, list[socket.socket]]) -> None:
        """Go on with other listeners, after a change of what is served."""
        self._find(sockets)
        if self._handle is not None:
            for listener in [*self._shared, *(each for slot in self._watched for each in self._by_slot.get(slot, ()))]:
                listener.watch()

    def start(self) -> None:
        """Accept clients, and look after the slots of others from now on."""
        for listener in self._shared:
            listener.watch()
        self._beat()

    def stop(self) -> None:
        """Give no more signs of life: others take over the slots."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _beat(self) -> None:
        blocked_after = self._serving.server.limits.blocked_after
        self._board.beat(self._worker, int((blocked_after or 0) * 1000))
        self._handle = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        if self._beats % BEATS_PER_SAMPLE == 0:
            self._serving.sample()
        self._beats += 1
        wanted = self._wanted()
        if wanted != self._watched:
            for slot in wanted - self._watched:
                for listener in self._by_slot.get(slot, ()):
                    listener.watch()
            for slot in self._watched - wanted:
                for listener in self._by_slot.get(slot, ()):
                    listener.unwatch()
            self._watched = wanted

    def _wanted(self) -> set[int]:
        board, n_workers = self._board, max(self._board.n_workers, 1)
        latest = now_ms() - STALE_MS
        alone = {number for number in range(n_workers) if board.last_beat(number) < latest}
        return {slot for slot in self._by_slot if (owner := slot % n_workers) == self._worker or owner in alone}
