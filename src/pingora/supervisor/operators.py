"""How operators reach an instance: its control socket and its pid file, which appear and go together."""

import os
from collections.abc import Mapping
from pathlib import Path

from pingora.supervisor import Refused, paths, say
from pingora.supervisor.control import Command, ControlSocket, remove_pid_file, write_pid_file
from pingora.supervisor.options import Options


class Operators:
    """The control socket and the pid file of an instance, between `open` and `close`.

    With process 1 of a container ends all that is in it: an operator in there is given time to end first.
    """

    def __init__(self, options: Options, commands: Mapping[str, Command], is_in_container: bool = False) -> None:
        self._options = options
        self._is_in_container = is_in_container
        self._commands = dict(commands)
        self._control: ControlSocket | None = None

    async def open(self) -> None:
        """Make both. Raises Refused if one that was asked for cannot be made."""
        pid_file = Path(self._options.pid_file) if self._options.pid_file else None
        if pid_file and not pid_file.parent.is_dir():
            raise Refused(
                f"cannot write the pid file {pid_file}: there is no directory {pid_file.parent}; make it first"
            )
        explicit = self._options.control or os.environ.get(paths.ENVIRONMENT)
        path = Path(explicit) if explicit else pid_file.with_suffix(".sock") if pid_file else None
        try:
            path, sock = (path, paths.bind(path)) if path else paths.bind_default(self._options.name)
        except Refused as error:
            if path:
                raise
            say(f"{error}; only signals control this instance")
        else:
            self._control = ControlSocket(path, sock, self._commands, waits=self._is_in_container)
            await self._control.start()
        if pid_file:
            write_pid_file(pid_file)

    def release(self) -> None:
        """Let another instance take both; questions that were asked are still answered."""
        if self._control is not None:
            self._control.stop_listening()

    async def close(self) -> None:
        """Answer what was asked, and remove both if they are still ours."""
        if self._options.pid_file:
            remove_pid_file(Path(self._options.pid_file))
        if self._control is not None:
            await self._control.close()
