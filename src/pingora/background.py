"""Work that no request asks for: services on the loop of each worker, or once per instance in its agent."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import ClassVar

log = logging.getLogger("pingora")

FIRST_DELAY_S = 1.0  # from the failure of a service to its next run; doubles up to LONGEST_DELAY_S
LONGEST_DELAY_S = 60.0


class BackgroundService:
    """A task beside the sessions. Subclass it, override `run`, and give an instance to `Server.add_service`.

    `where` is "worker" (in each worker, where it can refresh what hooks read on their `self`) or "agent" (once, in a
    process of its own that serves nobody; `pingora.publish` gives what it finds to the workers). A program that serves
    inside its own process runs both kinds there.
    """

    where: ClassVar[str] = "worker"

    async def run(self) -> None:
        """Do the work, for ever or until it is done; cancelled at the end.

        One that raises is logged and run again, after 1 s and then more slowly.
        """
        raise NotImplementedError


class RunningServices:
    """The tasks of services on the present loop."""

    def __init__(self, services: Iterable[BackgroundService]) -> None:
        self._tasks = [asyncio.ensure_future(keep_running(service)) for service in services]

    async def stop(self) -> None:
        """Cancel them and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        self._tasks = []

    def cancel(self) -> None:
        """Cancel them without waiting."""
        for task in self._tasks:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                task.cancel()


async def keep_running(service: BackgroundService) -> None:
    """Run a service; run it again after it raised."""
    delay = FIRST_DELAY_S
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await service.run()
            return
        except Exception:
            if loop.time() - started > LONGEST_DELAY_S:
                delay = FIRST_DELAY_S
            log.exception("%s failed, it runs again in %.0f s", type(service).__name__, delay)
        await asyncio.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY_S)
