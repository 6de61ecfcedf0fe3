"""`pingora run`: this process becomes the supervisor of a program that it does not import."""

import asyncio
import signal

from pingora.program import Program
from pingora.supervisor import Refused, say
from pingora.supervisor.generation import spawn
from pingora.supervisor.instance import SIGNALS, Supervisor
from pingora.supervisor.log_files import open_log_files
from pingora.supervisor.notify import take_listen_fds
from pingora.supervisor.options import Options
from pingora.supervisor.system import adopt_orphans, raise_descriptor_limit
from pingora.supervisor.upgrade import Predecessor


def run_instance(program: Program, options: Options) -> int:
    """Serve a program until told to stop; return the exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until there are handlers
    try:
        open_log_files(options.log_files)
    except Refused as error:
        say(str(error))
        return 2
    raise_descriptor_limit()
    adopt_orphans()

    predecessor = Predecessor.from_environment()
    listening = take_listen_fds()

    async def run() -> int:
        supervisor = Supervisor(options, lambda: spawn(program), predecessor)
        supervisor.config_file = program.config_file
        supervisor.sockets.inherit(listening)
        return await supervisor.run()

    return asyncio.run(run())
