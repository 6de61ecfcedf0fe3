"""The memory of a program's rings, kept by the supervisor so that it outlives generations and upgrades.

Light: the supervisor holds descriptors. `pingora.rings` knows what is in the memory.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pingora.supervisor import Refused
from pingora.supervisor.channel import Channel, Message

if TYPE_CHECKING:
    from pingora.rings import Memory

KEPT_MOST = 100  # descriptors of all travel in one message


class KeptRings:
    """By the name of each: its size, and the descriptors of its memory and its eventfd. Owns them."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, int, int]] = {}

    def take(self, message: Message) -> None:
        """Keep the rings of a message that are not kept yet. Raises Refused for one whose size has changed."""
        new = rings_of(message)
        try:
            for name, (size, _, _) in new.items():
                if name in self._kept and self._kept[name][0] != size:
                    raise Refused(
                        f"ring {name!r} has {self._kept[name][0]} bytes since the instance was started, and would have "
                        f"{size} now: stop it and start it again, or take another name"
                    )
            if len(self._kept.keys() | new.keys()) > KEPT_MOST:
                raise Refused(f"there were more than {KEPT_MOST} rings since the instance was started")
            self._kept = {**new, **self._kept}
        finally:
            for _, *fds in new.values():
                if not any(fds[0] == kept[1] for kept in self._kept.values()):
                    close_all(fds)

    def send(self, channel: Channel) -> None:
        """Give all to a generation or to the supervisor of an upgrade. Raises OSError."""
        fds = [fd for _, *both in self._kept.values() for fd in both]
        channel.send("rings", fds, rings={name: size for name, (size, _, _) in self._kept.items()})


def rings_of(message: Message) -> dict[str, tuple[int, int, int]]:
    """Take name, size and descriptors of the rings that a message brought."""
    found = {}
    for number, (name, size) in enumerate(message.fields.get("rings", {}).items()):
        found[name] = (size, message.fds[2 * number], message.fds[2 * number + 1])
    message.fds = message.fds[2 * len(found) :]
    return found


def offer(channel: Channel, kind: str, memories: "dict[str, Memory]", **fields: object) -> None:
    """Send a message with new memory for rings. Raises OSError."""
    fds = [fd for memory in memories.values() for fd in (memory.fd, memory.wake)]
    channel.send(kind, fds, rings={name: memory.slots.capacity for name, memory in memories.items()}, **fields)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)
