"""`pingora run`: this process becomes the supervisor of a program that it does not import."""

import asyncio
import functools
import signal
from collections.abc import Mapping
from typing import Any

from pingora.limits import raise_descriptor_limit
from pingora.program import Program
from pingora.supervisor import Refused, say
from pingora.supervisor.daemon import Daemon
from pingora.supervisor.generation import spawn
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.instance import SIGNALS, Supervisor
from pingora.supervisor.log_files import open_log_files
from pingora.supervisor.notify import take_listen_fds
from pingora.supervisor.options import Options
from pingora.supervisor.process_one import ProcessOne
from pingora.supervisor.system import adopt_orphans, rights_of
from pingora.supervisor.upgrade import Predecessor
from pingora.usage import UsageError


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
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until there are handlers
    predecessor = Predecessor.from_environment()
    listening = take_listen_fds()
    daemon = Daemon.fork() if options.daemon and predecessor is None else None
    try:
        rights = rights_of(options.user, options.group)
        open_log_files(options.log_files)
        raise_descriptor_limit(options.descriptors)
    except (Refused, UsageError, OSError) as error:
        say(str(error))
        return 2
    adopt_orphans()

    async def run() -> int:
        supervisor = Supervisor(
            options,
            functools.partial(spawn, program, rights),
            predecessor,
            program=program,
            given=given,
            process_one=process_one,
        )
        supervisor.daemon = daemon
        supervisor.reloads.loaded = files
        supervisor.sockets.inherit(listening)
        return await supervisor.run()

    return asyncio.run(run())
