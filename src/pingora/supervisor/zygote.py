"""The process of a generation: loads the program once, says what it wants, then forks workers on demand.

It has no event loop, no connection and one thread, so a fork is a clean copy; and most of its memory stays shared. It
ends when its supervisor does.
"""

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pingora
from pingora import metrics
from pingora.loading import load
from pingora.program import Program
from pingora.rings import Memory, rings
from pingora.server import Server
from pingora.supervisor import SIGNALS, say
from pingora.supervisor.agent import Agent
from pingora.supervisor.board import AGENT, Board
from pingora.supervisor.channel import PROTOCOL, Channel, Message
from pingora.supervisor.code import changed_files, imported_code
from pingora.supervisor.follower import shortened
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.kept_rings import offer, rings_of
from pingora.supervisor.life import Birth, Life, ignore_supervisor_signals, replace_output
from pingora.supervisor.sockets import keys_of, places_of, take
from pingora.supervisor.statistics import Statistics, drop_absorbed, open_all
from pingora.supervisor.system import give_memory_back
from pingora.supervisor.totals import begin
from pingora.tls import files, ticket_store
from pingora.tls.server import follow_tickets
from pingora.tls.ticket_store import TicketStore
from pingora.usage import ConfigError, UsageError
from pingora_c.stats.counters import Counters

if TYPE_CHECKING:
    from pingora.config.build import ConfiguredServer


def check_threads() -> None:
    """Refuse to go on with more than one thread: a forked worker would lack the others. Raises UsageError."""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    n_unnamed = len(os.listdir("/proc/self/task")) - 1 - len(others)
    if n_unnamed > 0:
        others.append(f"{n_unnamed} started outside Python")
    if others:
        raise UsageError(
            f"the program has started threads while it was loaded: {', '.join(others)}; workers are forked and would "
            "lack them. Start them in worker_start()"
        )


def in_a_line(error: BaseException) -> str:
    """Say what was raised, as the last line of its traceback does."""
    return shortened([f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".removesuffix(": ")])[0]


def has_agent(server: Server) -> bool:
    """Whether there is work for an agent."""
    from pingora.load_balancing.upkeep import needs_agent  # the program has imported most of it

    return needs_agent(server) or any(service.where == "agent" for service in server.services)


@contextlib.contextmanager
def reading(given: GivenFiles) -> Iterator[None]:
    """Read what the supervisor has read in place of files."""
    token = files.given.set(given.contents)
    try:
        yield
    finally:
        files.given.reset(token)


class Zygote:
    """A loaded program that waits to be forked."""

    def __init__(self, server: Server, channel: Channel) -> None:
        self._server = server
        self._channel = channel
        self._board: Board | None = None
        self._sockets: dict[str, list[socket.socket]] = {}
        self._statistics: list[Statistics] = []  # where workers count, and what came before
        self._probes: dict[str, list[socket.socket]] = {}  # of the agent
        self._roles: dict[str, str] = {}  # keys of these, by what they are for
        self._options: dict[str, Any] = {}
        self._code = imported_code()
        self._prepared: ConfiguredServer | None = None

    def run(self) -> None:
        """Report and serve the supervisor until it closes the channel. In a forked worker this does not return."""
        keys_of(self._server.addresses)  # the supervisor opens them, errors of use are found here
        offer(
            self._channel,
            "loaded",
            {name: rings.memory(name) for name in rings.sizes},
            protocol=PROTOCOL,
            version=pingora.__version__,
            addresses=self._server.addresses,
            has_agent=has_agent(self._server),
            metrics=self._server.metrics,
        )
        self._settle()
        while (message := self._channel.receive()) is not None:
            if message.kind == "board":
                self._board = Board(message.fds[0])
                self._statistics = open_all(message.fds[1:])
                begin(self._statistics[0], self._statistics[1:])
                drop_absorbed(self._statistics)
                self._options = message["options"]
            elif message.kind == "sockets":
                take(self._sockets, message)
            elif message.kind == "options":
                self._options = message["options"]
            elif message.kind == "rings":
                rings.use({name: Memory(*fds) for name, (_, *fds) in rings_of(message).items()})
            elif message.kind == "tickets":
                follow_tickets(TicketStore(message.fds[0]))
            elif message.kind == "probes":
                take(self._probes, message)
            elif message.kind == "roles":
                self._forget(list(self._probes), self._probes)
                self._roles = message["roles"]
            elif message.kind == "check":
                self._check(message["file"], GivenFiles.take(message))
            elif message.kind == "commit":
                self._commit()
            elif message.kind == "drop":
                self._prepared = None
                self._forget(message["keys"])
            elif message.kind == "reopen":
                replace_output(message)
            elif message.kind == "fork":
                self._fork(message)
            else:
                message.close_fds()

    def _check(self, file: str, given: GivenFiles) -> None:
        """Build a configuration aside, for workers that are forked later; say what is wrong with it."""
        changed, problems, addresses, agent = changed_files(self._code), [], [], False
        if not changed:
            try:
                assert given.text is not None
                with reading(given):
                    self._prepared = cast("ConfiguredServer", self._server).rebuilt(file, given.text)
                self._prepared.check()
                addresses = self._prepared.addresses
                keys_of(addresses)
                agent = has_agent(self._prepared)
                check_threads()
                changed = ["a ring that is new"] if rings.has_unknown else []
            except ConfigError as error:
                problems = error.problems
            except UsageError as error:
                problems = [f"{file}: {error}"]
            except Exception as error:  # of the user's code or ours: what is served goes on
                say(f"{file}: building it raised\n{traceback.format_exc().rstrip()}")
                problems = [f"{file}: building it raised {type(error).__name__}: {error}"]
        self._channel.send(
            "checked", changed=changed, problems=shortened(problems), addresses=addresses, has_agent=agent
        )

    def _commit(self) -> None:
        assert self._prepared is not None
        self._server, self._prepared = self._prepared, None
        self._server.equip_proxy()
        self._code = imported_code() | self._code  # with what the new configuration imported
        kept = keys_of(self._server.addresses)
        self._forget([key for key in self._sockets if key not in kept])
        self._settle()

    def _settle(self) -> None:
        """Be a base for forks: without garbage, and without work for the collector of a worker."""
        gc.collect()
        gc.freeze()  # a run in a worker would write to these objects, and no page would stay shared
        give_memory_back()

    def _forget(self, keys: list[str], among: dict[str, list[socket.socket]] | None = None) -> None:
        for key in keys:
            for sock in (self._sockets if among is None else among).pop(key, ()):
                sock.close()

    def _fork(self, message: Message) -> None:
        """Fork a worker whose parent is the supervisor: the process between ends at once, and its orphan is adopted."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                between = os.getpid()
                try:
                    if os.fork():
                        os._exit(0)
                except OSError as error:
                    say(f"cannot start a worker: {error.strerror}")
                    os._exit(1)
                while os.getppid() == between:  # until then nobody could wait for us
                    time.sleep(0.0005)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                self._run_worker(message)
            os.waitpid(pid, 0)
        except OSError as error:  # no process or memory to be had
            say(f"cannot start a worker: {error.strerror}")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        message.close_fds()  # the supervisor sees the end of the channel if there is no worker

    def _run_worker(self, message: Message) -> None:
        """In the child; does not return."""
        code, channel = 1, Channel(socket.socket(fileno=message.fds[0]))
        try:
            self._channel.close()
            assert self._board is not None
            self._place_sockets()
            counters = Counters(self._statistics[0].block(message["block"]))
            birth = Birth(message["number"], channel, self._board, counters, self._sockets, self._options)
            metrics.place.use(counters)
            if birth.number == AGENT:
                probes = {role: self._probes[key] for role, key in self._roles.items()}
                Agent(self._server, birth, probes, self._statistics).run()
            else:
                Life(self._server, birth).run()
            code = 0
        except BaseException as error:
            say(f"worker {os.getpid()} failed: {type(error).__name__}: {error}\n{traceback.format_exc().rstrip()}")
            with contextlib.suppress(OSError):  # the supervisor is gone
                channel.send("failed", why=in_a_line(error))
        finally:
            os._exit(code)

    def _place_sockets(self) -> None:
        for site, address, key in places_of(self._server):
            site.bound[address] = self._sockets[key]


def load_and_run(channel: Channel) -> None:
    """Be the generation of the program that the supervisor names."""
    message = channel.receive()
    if message is None:
        return
    given = GivenFiles()
    if message.fds:  # an older supervisor has none
        ticket_store.shared = TicketStore(message.fds.pop(0))
    if message.fds:
        given = GivenFiles.take(message)
    try:
        program = Program.from_message(message["program"])
        sys.argv = [program.file.partition(":")[0]] if program.file else ["pingora"]
        with reading(given):
            server = load(program, given.text)
        server.check()
        server.check_addresses()
        check_threads()
        ignore_supervisor_signals()  # again: the program may have its own
        Zygote(server, channel).run()
    except ConfigError as error:
        channel.send("refused", text=f"the configuration cannot be used:\n{error}")
    except UsageError as error:
        channel.send("refused", text=str(error))


def main() -> None:
    """Run as `python -m pingora.supervisor.zygote FD`."""
    ignore_supervisor_signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # as the supervisor had it when it started us
    load_and_run(Channel(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
