"""What the agent of an instance has published, kept by the supervisor for the workers that come."""

import os
from collections.abc import Iterable

from pingora.snapshots import NAMES_MOST
from pingora.supervisor.channel import Message
from pingora.supervisor.worker import Worker


class Published:
    """The latest snapshot of each name. Owns their descriptors."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def take(self, message: Message, workers: Iterable[Worker]) -> None:
        """Keep a snapshot that the agent sent, and give it to all workers."""
        name = message["name"]
        if message.fds and (name in self._fds or len(self._fds) < NAMES_MOST):
            if (before := self._fds.pop(name, None)) is not None:
                os.close(before)
            self._fds[name] = fd = message.fds.pop()
            for worker in workers:
                worker.send("snapshot", (fd,), name=name)
        message.close_fds()

    def give_all(self, worker: Worker) -> None:
        """Give a new worker what was published before it."""
        for name, fd in self._fds.items():
            worker.send("snapshot", (fd,), name=name)
