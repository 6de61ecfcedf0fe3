"""What a file says about the processes themselves: taken over by a reload where that can be, named where it cannot."""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from pingora.supervisor import Refused
from pingora.supervisor.log_files import close_all, open_all, write_to
from pingora.supervisor.options import Options, key_of
from pingora.usage import UsageError

if TYPE_CHECKING:
    from pingora.supervisor.instance import Supervisor

# What takes effect with a reload, beside the number of workers and the files of logs.
LIVE = ("grace", "drain", "stuck_after", "ready_delay", "max_requests", "max_memory", "health", "metrics")
LOG_FILES = ("access_log_file", "error_log_file")


class Settings:
    """The options of an instance as its file has them."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self._n_workers = supervisor.options.workers  # that the file said last

    async def change(self, wanted: Options, reload: Callable[[], Awaitable[str]]) -> str:
        """Take over options together with what `reload` does; say what has happened. Raises Refused: nothing has."""
        ours = self._supervisor
        before = ours.options
        metrics = ours.generation.metrics if ours.generation is not None else None
        new_logs = {fd: path for fd, path in wanted.log_files.items() if before.log_files.get(fd) != path}
        number = wanted.workers if wanted.workers not in (0, self._n_workers) else before.workers
        new: list[str] = []
        opened: dict[int, int] = {}
        try:
            opened = open_all(new_logs)
            new = ours.ports.open(wanted, metrics)
            if number > before.workers:
                await ours.scaling.change(number)
            text = await reload()
        except BaseException as error:
            ours.ports.sockets.close(new)
            close_all(opened)
            if ours.options.workers > before.workers:
                with contextlib.suppress(Refused):  # it is being stopped
                    await ours.scaling.change(before.workers)
            if isinstance(error, UsageError):
                raise Refused(str(error)) from None
            raise
        await self._commit(wanted, number, opened)
        later = self._later(wanted)
        return f"{text}; with the next `pingora upgrade` or restart: {', '.join(later)}" if later else text

    async def _commit(self, wanted: Options, number: int, opened: dict[int, int]) -> None:
        ours = self._supervisor
        before = ours.options
        if wanted.workers:
            if wanted.workers != self._n_workers:
                ours.scaling.is_by_hand = False
            self._n_workers = wanted.workers
        names = (*LIVE, *(name for name in LOG_FILES if getattr(wanted, name) is not None))
        ours.options = replace(before, **{name: getattr(wanted, name) for name in names})
        if number < before.workers:
            await ours.scaling.change(number)
        write_to(opened)
        assert ours.generation is not None
        if opened:
            for generation in ours.generations:
                generation.reopen_logs()
        if ours.options.for_workers != before.for_workers:
            ours.generation.send_options(ours.options.for_workers)
        if (ours.options.health, ours.options.metrics) != (before.health, before.metrics):
            with contextlib.suppress(Refused):  # it has ended, and is replaced
                ours.ports.give(ours.options, ours.generation)
            ours.places.renew_agent()

    def _later(self, wanted: Options) -> list[str]:
        """Give the keys that say something else than what holds, now that all has changed that can."""
        now = replace(self._supervisor.options, workers=wanted.workers or self._supervisor.options.workers)
        names = [field.name for field in fields(Options)]
        return [key_of(name) for name in names if getattr(now, name) != getattr(wanted, name)]
