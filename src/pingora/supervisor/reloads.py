"""Reloads as their supervisor leads them: a configuration in place, code by a new generation beside the old one."""

import asyncio
from typing import TYPE_CHECKING

from pingora.supervisor import Refused, say
from pingora.supervisor.backoff import LONGEST_DELAY_S
from pingora.supervisor.generation import Generation
from pingora.supervisor.given_files import GivenFiles, read_again
from pingora.supervisor.in_place import change_in_place
from pingora.supervisor.statistics import REFUSED_RELOADS, RELOADS

if TYPE_CHECKING:
    from pingora.supervisor.instance import Supervisor

LOAD_S = 120.0  # that a program may take to load in a reload


class Reloads:
    """Changes of what an instance serves. One that fails at any step leaves it as it was."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self.n_done = 0
        self.loaded = GivenFiles()  # with which the program was loaded, or its configuration was taken over
        self.is_in_place = False  # now: a worker forked meanwhile might miss it

    async def reload(self) -> str:
        """Serve what the program is now; return what has happened. Raises Refused."""
        ours = self._supervisor
        ours.notifier.reloading()
        try:
            async with ours.busy:
                text = await self._change()
        except Refused as error:
            ours.statistics[0].count(REFUSED_RELOADS)
            say(f"reload refused: {error}")
            raise
        finally:
            ours.notifier.ready("serving")
        ours.statistics[0].count(RELOADS)
        self.n_done += 1
        say(text)
        return text

    async def _change(self) -> str:
        ours = self._supervisor
        file = ours.program.config_file if ours.program is not None else None
        files, wanted = await read_again(ours.program, ours.given)
        if wanted is None:
            text = await self._change_program(file, files)
        else:
            text = await ours.settings.change(wanted, lambda: self._change_program(file, files))
        if ours.generation is not None:
            ours.ports.keep_only(ours.options, ours.generation)
        self.loaded = files
        return text

    async def _change_program(self, file: str | None, given: GivenFiles) -> str:
        ours = self._supervisor
        if file is not None and await self._change_in_place(file, given):
            return f"{file} has taken over in place"
        await self._change_generation(given)
        assert ours.generation is not None
        return f"generation {ours.generation.number} has taken over"

    async def _change_in_place(self, file: str, given: GivenFiles) -> bool:
        ours = self._supervisor
        if ours.is_stopping or ours.generation is None or ours.generation.is_retired:
            return False
        self.is_in_place = True
        had_agent = ours.generation.has_agent
        try:
            is_changed = await change_in_place(ours.generation, ours.sockets, file, given)
            if is_changed and (had_agent or ours.generation.has_agent):
                ours.places.renew_agent()
            return is_changed
        finally:
            self.is_in_place = False
            ours.places.fill()  # where somebody died or did enough meanwhile

    async def _change_generation(self, given: GivenFiles) -> None:
        ours = self._supervisor
        if ours.is_stopping or ours.generation is None:
            raise Refused("the instance is not running")
        old, new = ours.generation, await ours.load(LOAD_S, given)
        try:
            await ours.places.start(new, range(ours.options.workers))
            if ours.is_stopping:
                raise Refused("the instance is being stopped")
        except BaseException:
            ours.discard(new)
            ours.sockets.keep_only(old.addresses)
            ours.ports.keep_only(ours.options, old)
            raise
        ours.take_over(new)
        new.accept()
        ours.retire(old)
        await old.refuses()
        ours.sockets.keep_only(new.addresses)
        ours.places.fill()  # the agent, and where one that was ready has died

    async def replace_lost(self, lost: Generation) -> None:
        """Replace a generation that cannot fork any more; its workers serve on meanwhile.

        Its configuration stays: what its file says now may not be finished.
        """
        ours = self._supervisor
        delay = 0.1
        while ours.generation is lost and not ours.is_stopping:
            try:
                async with ours.busy:
                    if ours.generation is lost:
                        await self._change_generation(self.loaded)
            except Refused as error:
                say(f"cannot load the program again: {error}")
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_S)
