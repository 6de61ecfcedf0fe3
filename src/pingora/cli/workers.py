"""A number of workers, as an option or argument."""

from typing import Any

import click

from pingora.supervisor.board import WORKERS_MOST
from pingora.supervisor.processors import auto_workers


class Workers(click.IntRange):
    """A number of workers, or "auto"."""

    def __init__(self, least: int) -> None:
        super().__init__(least, WORKERS_MOST)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn "auto" into the number of processors."""
        try:
            return auto_workers() if value == "auto" else super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"expected auto or a whole number from {self.min} to {self.max}, got {value!r}", param, ctx)
