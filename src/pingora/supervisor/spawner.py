"""The processes that load the program: fresh interpreters, the first of them before anybody asks for it.

That one imports what a generation needs at the same time as the supervisor imports what it needs itself.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from pingora.program import Program
from pingora.supervisor import Refused
from pingora.supervisor.channel import Channel
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.system import start_module


class Spawner:
    """Starts processes for a program. `rights` are those of `rights_of`: another user, if any. Raises Refused."""

    def __init__(self, program: Program, rights: Mapping[str, Any]) -> None:
        self._program = program
        self._rights = rights
        self._ahead: tuple[Channel, int] | None = start_interpreter(rights)

    def spawn(self, tickets: int, given: GivenFiles) -> tuple[Channel, int]:
        """Let a process load the program; return the channel to it and its process id. Raises Refused.

        `tickets` is the descriptor of the instance's TicketStore.
        """
        channel, pid = self._ahead or start_interpreter(self._rights)
        self._ahead = None
        files = given.put()
        try:
            channel.send("load", [tickets, files], program=self._program.to_message())
        except OSError as error:
            channel.close()
            raise Refused(f"the process that was to load the program does not answer: {error.strerror}") from None
        finally:
            os.close(files)
        return channel, pid


def start_interpreter(rights: Mapping[str, Any]) -> tuple[Channel, int]:
    """Start a process that waits for a program; return the channel to it and its process id. Raises Refused."""
    channel, theirs = Channel.pair()
    with theirs:
        try:
            return channel, start_module("pingora.supervisor.zygote", theirs.fileno(), rights)
        except (OSError, subprocess.SubprocessError) as error:
            channel.close()
            if isinstance(error, subprocess.SubprocessError):
                raise Refused(f"cannot become {rights.get('user')}: {error}") from None
            raise Refused(f"cannot start {sys.executable}: {error.strerror}") from None
