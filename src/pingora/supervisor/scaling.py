"""More or fewer workers while all goes on: new slots for more, and fewer share those that there are."""

from dataclasses import replace
from typing import TYPE_CHECKING

from pingora.supervisor import Refused, say
from pingora.supervisor.board import WORKERS_MOST
from pingora.usage import UsageError

if TYPE_CHECKING:
    from pingora.supervisor.instance import Supervisor


def n_workers_text(number: int) -> str:
    """Say how many."""
    return "1 worker" if number == 1 else f"{number} workers"


class Scaling:
    """Changes the number of workers of an instance. The caller of `change` holds `busy`."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self.is_by_hand = False  # an operator said it: a reload or an upgrade does not change it by itself

    async def scale(self, number: int) -> str:
        """Have so many workers until a configuration says another number; say so. Raises Refused."""
        if not isinstance(number, int) or not 1 <= number <= WORKERS_MOST:
            raise Refused(f"expected 1 to {WORKERS_MOST} workers")
        async with self._supervisor.busy:
            await self.change(number)
            self.is_by_hand = True
        text = f"{n_workers_text(number)} now"
        say(text)
        return text

    async def change(self, number: int) -> None:
        """Have so many workers; new ones serve on return. Raises Refused, and then nothing has changed."""
        ours = self._supervisor
        if ours.is_stopping or ours.generation is None:
            raise Refused("the instance is not running")
        if number > ours.options.workers:
            await self._grow(number)
        else:
            self._shrink(number)

    async def _grow(self, number: int) -> None:
        ours = self._supervisor
        generation = ours.generation
        assert generation is not None
        try:
            new = ours.sockets.grow(number)
        except UsageError as error:
            raise Refused(str(error)) from None
        # Whoever serves now takes the clients of the new slots until their owners are there.
        generation.add_slots(new)
        started = []
        if not generation.is_retired:  # else the one that comes after it starts as many
            started = await ours.places.start(generation, range(ours.options.workers, number))
        if ours.is_stopping:
            raise Refused("the instance is being stopped")
        self._set(number)
        for worker in started:
            ours.board.clear(worker.number)  # of the sign of life that an earlier owner left
            worker.accept()
        ours.places.fill()  # where one that was ready has died

    def _shrink(self, number: int) -> None:
        ours = self._supervisor
        self._set(number)  # the others take over the slots with their next beat
        assert ours.generation is not None
        for worker in ours.generation.servers:
            if worker.number >= number and not worker.is_leaving:
                ours.places.let_go(worker, ours.options.drain)

    def _set(self, number: int) -> None:
        ours = self._supervisor
        ours.options = replace(ours.options, workers=number)
        ours.board.n_workers = number
