"""The processes below `server.run()`: the first generation is a fork of the program that called it.

The program itself is the supervisor, so its code cannot be loaded anew: reloading is for `pingora run`.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from pingora.server import Server
from pingora.supervisor import Refused, say
from pingora.supervisor.channel import Channel
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.instance import SIGNALS, Supervisor
from pingora.supervisor.life import ignore_supervisor_signals
from pingora.supervisor.options import Options
from pingora.supervisor.sockets import keys_of, places_of
from pingora.supervisor.system import adopt_orphans
from pingora.supervisor.zygote import Zygote, check_threads
from pingora.usage import UsageError


def supervise(server: Server, workers: int, grace: float) -> None:
    """Serve in forked workers until told to stop. Exits with code 2 and one line on stderr if it cannot start."""
    try:
        server.check()
        keys_of(server.addresses)
        check_threads()
    except UsageError as error:
        say(str(error))
        sys.exit(2)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    adopt_orphans()
    try:
        started = [fork_zygote(server, mask)]

        def start(_tickets: int, _given: GivenFiles) -> tuple[Channel, int]:
            if not started:
                raise Refused("server.run() cannot load its program again; `pingora run FILE.py` can")
            return started.pop()

        async def run() -> int:
            options = Options(workers=workers, grace=grace, name=Path(sys.argv[0]).stem or "pingora")
            supervisor = Supervisor(options, start, is_embedded=True)
            supervisor.sockets.adopt(take_sockets(server))
            return await supervisor.run()

        code = asyncio.run(run())
    finally:
        adopt_orphans(False)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask - {signal.SIGINT, signal.SIGTERM})
    if code:
        sys.exit(code)


def take_sockets(server: Server) -> dict[str, list[socket.socket]]:
    """Take what the program has bound already, by address."""
    taken: dict[str, list[socket.socket]] = {}
    for site, address, key in places_of(server):
        if address in site.bound:
            taken[key] = site.bound.pop(address)
    return taken


def fork_zygote(server: Server, mask: Iterable[int]) -> tuple[Channel, int]:
    """Make the generation: a copy of this process that only forks workers."""
    channel, theirs = Channel.pair()
    pid = os.fork()
    if pid:
        theirs.close()
        return channel, pid
    code = 1
    try:
        channel.close()
        ignore_supervisor_signals()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set(mask) - set(SIGNALS))
        server.close_listeners()  # it gets them from the supervisor
        Zygote(server, Channel(theirs)).run()
        code = 0
    finally:
        os._exit(code)
