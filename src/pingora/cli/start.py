"""`pingora run`: a child reads the command line, and this process, which imports none of that, becomes the supervisor.

The child ends when it has told what was asked for, and with it the memory that click and a configuration's model took.
"""

import dataclasses
import json
import os
import signal
import sys
from typing import Any, NoReturn

from pingora.program import Program
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.main import run_instance
from pingora.supervisor.options import Options
from pingora.supervisor.process_one import ProcessOne
from pingora.usage import UsageError


def start() -> int:
    """Run what the command line asks for; return the exit code. Does not return in process 1 of a container."""
    process_one = ProcessOne.find()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        read_command_line(writing)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            told = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except KeyboardInterrupt:  # it had that too
        os.waitpid(pid, 0)
        return 1
    if code or not told:
        return code if code >= 0 else 128 - code
    fields = json.loads(told)
    program, options = Program.from_message(fields["program"]), Options(**fields["options"])
    if not options.workers:
        return serve_here(program, options)
    files = GivenFiles.from_message(fields["files"])
    return run_instance(program, options, fields["given"], files, process_one)


def read_command_line(pipe: int) -> NoReturn:
    """Write to a pipe what is to run; nothing if a fault or what was asked for has been printed. Ends."""
    from pingora.cli.one_line import run_command
    from pingora.cli.run import run

    def tell(program: Program, options: Options, given: dict[str, Any], files: GivenFiles) -> None:
        told = {
            "program": program.to_message(),
            "options": dataclasses.asdict(options),
            "given": given,
            "files": files.to_message(),
        }
        with open(pipe, "w") as file:
            json.dump(told, file)

    run_command(run, sys.argv[2:], "pingora run", tell)


def serve_here(program: Program, options: Options) -> int:
    """Serve in this process, which imports the program; return the exit code."""
    from pingora.loading import load

    try:
        server = load(program)
    except UsageError as error:
        print(error.told, file=sys.stderr)
        return 2
    if options.metrics:
        server.metrics = options.metrics
    reloads = (signal.SIGHUP,) if program.config_file else ()
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, *reloads))  # until run() has handlers
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # what run() comes back to: a second Ctrl-C does not disturb the end
    server.run(0, grace=options.grace)
    return 0
