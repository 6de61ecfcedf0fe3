"""The processes below `server.run()`: the program itself is the supervisor, its first generation a fork of it.

A reload runs the program again, as it was started, as a child: what it does before `server.run()` happens again, and
there it becomes the next generation. An upgrade runs it again as the next supervisor.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from pingora.server import Server
from pingora.supervisor import SIGNALS, Refused, say
from pingora.supervisor.channel import Channel
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.instance import Supervisor
from pingora.supervisor.life import ignore_supervisor_signals
from pingora.supervisor.options import Options
from pingora.supervisor.predecessor import Predecessor
from pingora.supervisor.process_one import ProcessOne
from pingora.supervisor.sockets import keys_of, places_of
from pingora.supervisor.system import adopt_orphans
from pingora.supervisor.zygote import Zygote, check_threads
from pingora.usage import UsageError

VARIABLE = "PINGORA_GENERATION"  # DESCRIPTOR:PARENT, for a program that is run again: its channel, and who asked
runs: list[str] = []  # the instances of this process so far; one that is not the first cannot be found by running again


def supervise(server: Server, workers: int, grace: float) -> None:
    """Serve in forked workers until told to stop. Exits with code 2 and one line on stderr if it cannot start."""
    if (channel := channel_to_parent()) is not None:
        be_generation(server, channel)
    predecessor = Predecessor.from_environment()
    try:
        check(server)
    except UsageError as error:
        say(str(error))
        if predecessor is not None:
            predecessor.refuse(str(error))
        sys.exit(2)
    process_one = ProcessOne.find()
    options = Options(workers=workers, grace=grace, name=Path(sys.argv[0]).stem or "pingora")
    runs.append(options.name)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    adopt_orphans()
    try:
        started = [fork_zygote(server, mask, predecessor, process_one)]

        def start(tickets: int, _given: GivenFiles) -> tuple[Channel, int]:
            channel, pid = started.pop() if started else run_again()
            with contextlib.suppress(OSError):  # it has ended, which shows next
                channel.send("tickets", [tickets])
            return channel, pid

        async def run() -> int:
            supervisor = Supervisor(options, start, predecessor, is_embedded=True, process_one=process_one)
            supervisor.command_line = command_line
            supervisor.sockets.adopt(take_sockets(server))
            supervisor.sockets.grow(workers)
            return await supervisor.run()

        code = asyncio.run(run())
    finally:
        adopt_orphans(False)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask - {signal.SIGINT, signal.SIGTERM})
    if code:
        sys.exit(code)


def check(server: Server) -> None:
    """Find what makes serving impossible. Raises UsageError."""
    server.check()
    server.check_addresses()
    keys_of(server.addresses)
    check_threads()


def command_line(program: str | None) -> list[str]:
    """Give the command that runs this program again, by another interpreter if one is named. Raises Refused."""
    if not sys.argv or sys.argv[0] in ("", "-"):
        raise Refused("the program was typed or piped in, so it cannot be run again: put it into a file")
    if len(runs) > 1:
        raise Refused("the program has called server.run() before this one, so running it again would not lead here")
    return [program or sys.executable, *sys.orig_argv[1:]]


def run_again() -> tuple[Channel, int]:
    """Run the program again, as a generation; return the channel to it and its process id. Raises Refused."""
    command = command_line(None)
    channel, theirs = Channel.pair()
    with theirs:
        fd = theirs.fileno()
        environment = {**os.environ, VARIABLE: f"{fd}:{os.getpid()}"}
        try:
            process = subprocess.Popen(command, pass_fds=[fd], env=environment)
        except OSError as error:
            channel.close()
            raise Refused(f"cannot start {command[0]}: {error.strerror}") from None
    process.returncode = 0  # the supervisor waits for its children itself
    return channel, process.pid


def channel_to_parent() -> Channel | None:
    """Take the channel of a program that was run again as a generation; None for another, also one that it started."""
    fd, _, parent = os.environ.pop(VARIABLE, "").partition(":")
    return Channel(socket.socket(fileno=int(fd))) if parent == str(os.getppid()) else None


def be_generation(server: Server, channel: Channel) -> NoReturn:
    """Be the next generation; what stands behind `server.run()` in the program is the supervisor's."""
    code = 2
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()  # once, not by each of the forks
        check(server)
        ignore_supervisor_signals()
        Zygote(server, channel).run()
        code = 0
    except UsageError as error:
        channel.send("refused", text=str(error))
    finally:
        os._exit(code)


def take_sockets(server: Server) -> dict[str, list[socket.socket]]:
    """Take what the program has bound already, by address."""
    taken: dict[str, list[socket.socket]] = {}
    for site, address, key in places_of(server):
        if address in site.bound:
            taken[key] = site.bound.pop(address)
    return taken


def fork_zygote(server: Server, mask: Iterable[int], *others: Predecessor | ProcessOne | None) -> tuple[Channel, int]:
    """Make the generation: a copy of this process that only forks workers, without its ways to `others`."""
    channel, theirs = Channel.pair()
    pid = os.fork()
    if pid:
        theirs.close()
        return channel, pid
    code = 1
    try:
        channel.close()
        for one in others:
            if one is not None:
                one.close()
        ignore_supervisor_signals()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set(mask) - set(SIGNALS))
        server.close_listeners()  # it gets them from the supervisor
        Zygote(server, Channel(theirs)).run()
        code = 0
    finally:
        os._exit(code)
