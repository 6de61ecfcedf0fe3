"""Reloads as their supervisor leads them: a configuration in place, code by a new generation beside the old one."""

import asyncio
from typing import TYPE_CHECKING

from pingora.supervisor import Refused, say
from pingora.supervisor.backoff import LONGEST_DELAY_S
from pingora.supervisor.generation import Generation
from pingora.supervisor.in_place import change_in_place

if TYPE_CHECKING:
    from pingora.supervisor.instance import Supervisor

LOAD_S = 120.0  # that a program may take to load in a reload


class Reloads:
    """Changes of what an instance serves. One that fails at any step leaves it as it was."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self.n_done = 0
        self.is_in_place = False  # now: a worker forked meanwhile might miss it

    async def reload(self) -> str:
        """Serve what the program is now; return what has happened. Raises Refused."""
        ours = self._supervisor
        ours.notifier.reloading()
        try:
            text = await self._change()
        except Refused as error:
            say(f"reload refused: {error}")
            raise
        finally:
            ours.notifier.ready("serving")
        self.n_done += 1
        say(text)
        return text

    async def _change(self) -> str:
        ours = self._supervisor
        if ours.config_file is not None and await self._change_in_place(ours.config_file):
            return f"{ours.config_file} has taken over in place"
        await self._change_generation()
        assert ours.generation is not None
        return f"generation {ours.generation.number} has taken over"

    async def _change_in_place(self, file: str) -> bool:
        ours = self._supervisor
        async with ours.busy:
            if ours.is_stopping or ours.generation is None or ours.generation.is_retired:
                return False
            self.is_in_place = True
            had_agent = ours.generation.has_agent
            try:
                is_changed = await change_in_place(ours.generation, ours.sockets, file)
                if is_changed and (had_agent or ours.generation.has_agent):
                    ours.renew_agent(ours.generation)
                return is_changed
            finally:
                self.is_in_place = False
                ours.fill_places()  # of those that died meanwhile

    async def _change_generation(self) -> None:
        ours = self._supervisor
        async with ours.busy:
            if ours.is_stopping or ours.generation is None:
                raise Refused("the instance is not running")
            old, new = ours.generation, await ours.load(LOAD_S)
            try:
                await new.start_workers(ours.options.workers)
                if ours.is_stopping:
                    raise Refused("the instance is being stopped")
            except BaseException:
                ours.discard(new)
                ours.sockets.keep_only(old.addresses)
                raise
            ours.take_over(new)
            new.accept()
            ours.retire(old)
            await old.refuses()
            ours.sockets.keep_only(new.addresses)
            ours.start_agent()

    async def replace_lost(self, lost: Generation) -> None:
        """Replace a generation that cannot fork any more; its workers serve on meanwhile."""
        ours = self._supervisor
        delay = 0.1
        while ours.generation is lost and not ours.is_stopping:
            try:
                await self._change_generation()
            except Refused as error:
                say(f"cannot load the program again: {error}")
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_S)
