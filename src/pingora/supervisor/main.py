"""`pingora run`: this process becomes the supervisor of a program that it does not import.

What this file imports does not import asyncio: the process that loads the program is started before, so that both
import what they need at the same time.
"""

import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pingora.limits import raise_descriptor_limit
from pingora.program import Program
from pingora.supervisor import SIGNALS, Refused, say
from pingora.supervisor.daemon import Daemon
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.log_files import open_log_files
from pingora.supervisor.notify import take_listen_fds
from pingora.supervisor.options import Options
from pingora.supervisor.predecessor import Predecessor
from pingora.supervisor.process_one import ProcessOne
from pingora.supervisor.spawner import Spawner
from pingora.supervisor.system import adopt_orphans, rights_of
from pingora.usage import UsageError

if TYPE_CHECKING:
    from pingora.supervisor.instance import Supervisor


def run_instance(
    program: Program,
    options: Options,
    given: Mapping[str, Any],
    files: GivenFiles,
    process_one: ProcessOne | None = None,
) -> int:
    """Serve a program until told to stop; return the exit code.

    `given` are the options of the command line, `files` what was read for the program; `process_one` is above us in a
    container.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until there are handlers
    predecessor = Predecessor.from_environment()
    listening = take_listen_fds()
    daemon = Daemon.fork(mask) if options.daemon and predecessor is None else None
    try:
        rights = rights_of(options.user, options.group)
        open_log_files(options.log_files)
        raise_descriptor_limit(options.descriptors)
        spawner = Spawner(program, rights)
    except (Refused, UsageError, OSError) as error:
        say(str(error))
        if predecessor is not None:
            predecessor.refuse(str(error))
        return 2
    adopt_orphans()
    make = import_supervisor()
    import asyncio  # after it: in our way

    async def run() -> int:
        supervisor = make(options, spawner.spawn, predecessor, program=program, given=given, process_one=process_one)
        supervisor.daemon = daemon
        supervisor.reloads.loaded = files
        supervisor.sockets.inherit(listening)
        return await supervisor.run()

    return asyncio.run(run())


def import_supervisor() -> "type[Supervisor]":
    """Import what a supervisor needs, but no ssl, which nothing here speaks: it would be a fifth of our memory."""
    sys.modules["ssl"] = None  # type: ignore[assignment]
    import asyncio  # noqa: F401

    del sys.modules["ssl"]
    from pingora.supervisor.instance import Supervisor

    return Supervisor
