"""The end of a worker, as its supervisor brings it about, of a proxy that runs in the test's process."""

import asyncio
import concurrent.futures
import contextlib

ENDINGS = ["drain", "retire"]  # a stop; a reload and an upgrade


class Ending:
    """`how` is under way, with `seconds` at most, until `finish()`."""

    def __init__(self, proxy, how, seconds=20):
        self._proxy = proxy
        ending = getattr(proxy.serving, how)(seconds)
        self._future = asyncio.run_coroutine_threadsafe(ending, proxy.serving.loop)

    def is_over(self, within=0.5):
        """Whether it ends though some are still to be waited for: give it the time to do so."""
        with contextlib.suppress(concurrent.futures.TimeoutError):
            self._future.result(within)
            return True
        return False

    def finish(self):
        """Wait for its end."""
        self._future.result(20)
