"""`pingora run`: this process becomes the supervisor of a program that it does not import."""

import asyncio
import signal

from pingora.program import Program
from pingora.supervisor import Refused, say
from pingora.supervisor.generation import spawn
from pingora.supervisor.instance import SIGNALS, Supervisor
from pingora.supervisor.log_files import open_log_files
from pingora.supervisor.options import Options
from pingora.supervisor.system import adopt_orphans, raise_descriptor_limit


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

    async def run() -> int:
        return await Supervisor(options, lambda: spawn(program)).run()

    return asyncio.run(run())
