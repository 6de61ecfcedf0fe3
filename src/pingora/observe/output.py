"""The output of a process that serves: stdout and stderr through bounded writers, so that nobody waits for a reader."""

import asyncio

from pingora.observe import logs
from pingora_c.log.writer import LogWriter

LOSSES_S = 1.0  # between two looks at how many lines were dropped


class Output:
    """stdout and stderr of a process that serves: print(), logging and access lines through bounded writers."""

    def __init__(self, level: str) -> None:
        self.stdout, self.stderr = LogWriter(1), LogWriter(2)
        self._losses = logs.Losses({"stdout": self.stdout, "stderr": self.stderr}, self.stderr)
        self._undo = logs.configure(self.stdout, self.stderr, level.upper())

    async def report_losses(self) -> None:
        """Say now and then how many lines were lost."""
        while True:
            await asyncio.sleep(LOSSES_S)
            self._losses.look()

    def reopen(self) -> None:
        """Write to what descriptors 1 and 2 are now."""
        self.stdout.reopen(1)
        self.stderr.reopen(2)

    def close(self) -> None:
        """Write what is left, for at most a second each, and give the streams back."""
        self.stdout.flush(1.0)  # what fails now is reported, too
        self._losses.look(is_last=True)
        self._undo()
        for writer in (self.stdout, self.stderr):
            writer.close()
