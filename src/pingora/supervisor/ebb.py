"""Memory that a worker gives back to the system when what needed it has gone.

The C library and the pool keep what connections have freed, for others like them: after 2,000 connections with TLS
27 MiB. When many connections or much of the buffers have gone, it is given back. A fall is seen by looking now and
then at the level and at the most that there was since the last look: what comes and goes in between leaves as much.
"""

import asyncio

from pingora.serving import Serving
from pingora.supervisor.system import trim_heap
from pingora_c.mem import buffer_pool

LOOK_S = 1.0
CONNECTIONS = 100  # a fall by fewer is none
BUFFER_BYTES = 1 << 20  # likewise


class Ebb:
    """Sees that a level has fallen by half since its highest mark, and by `least`."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._highest = 0

    def has_come(self, most: int, level: int) -> bool:
        """Look at the level, and at the most since the last look; after a fall the highest mark begins anew."""
        self._highest = max(self._highest, most)
        if self._highest - level < max(self._least, level):
            return False
        self._highest = level
        return True


async def give_memory_back_at_ebb(serving: Serving) -> None:
    """Look at connections and buffers until cancelled."""
    connections, buffers = Ebb(CONNECTIONS), Ebb(BUFFER_BYTES)
    is_behind = False  # a fall was seen at the look before: the rest of it may be less than what counts as one
    while True:
        await asyncio.sleep(LOOK_S)
        clients_gone = connections.has_come(serving.most_connections(), serving.n_connections)
        buffers_free = buffers.has_come(buffer_pool.most_lent(), buffer_pool.stats()["lent_bytes"])
        has_fallen = clients_gone or buffers_free
        if has_fallen or is_behind:
            buffer_pool.trim()
            trim_heap()
        is_behind = has_fallen
