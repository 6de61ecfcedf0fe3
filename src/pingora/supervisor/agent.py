"""The agent: one process per instance for what is not per request.

It runs services with where = "agent", answers health probes and shows the metrics of all processes, which it reads from
their memory without asking them.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence

from pingora import snapshots
from pingora.background import RunningServices
from pingora.load_balancing.upkeep import Upkeep
from pingora.observe.answering import Answer, Answering, Question
from pingora.observe.collected import Collected
from pingora.observe.output import Output
from pingora.observe.scrape import answer_metrics
from pingora.server import Server
from pingora.supervisor.channel import Channel, Message
from pingora.supervisor.health import Health
from pingora.supervisor.life import Birth, live, replace_output, take_snapshot
from pingora.supervisor.statistics import Statistics
from pingora.supervisor.totals import collect_instance


class Agent:
    """The agent in its own process. It ends when it is told to, or when its supervisor does.

    `probes` are listening sockets by what they are for: "health", "metrics".
    """

    def __init__(
        self,
        server: Server,
        birth: Birth,
        probes: Mapping[str, Sequence[socket.socket]],
        statistics: Sequence[Statistics],
    ) -> None:
        self._server = server
        self._birth = birth
        self._channel: Channel = birth.channel
        self._probes = probes
        self._statistics = statistics
        self._orders: asyncio.Queue[Message | None] = asyncio.Queue()

    def run(self) -> None:
        """Live; return when told to end."""
        snapshots.send = lambda name, fd: self._channel.send("publish", [fd], name=name)
        live(self._channel, self._server, self._main)

    async def _main(self, output: Output) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._on_message)
        answering = self._listen()
        services = RunningServices(service for service in self._server.services if service.where == "agent")
        upkeep = Upkeep()
        upkeep.follow(self._server)
        reports = loop.create_task(output.report_losses())
        self._channel.send("ready")
        while (order := await self._orders.get()) is not None and order.kind not in ("stop", "retire"):
            if order.kind == "reopen":
                replace_output(order)
                output.reopen()
            elif order.kind == "snapshot":
                take_snapshot(order)
        reports.cancel()
        upkeep.stop()
        await services.stop()
        for one in answering:
            one.close()
        with contextlib.suppress(OSError):  # the supervisor is gone
            self._channel.send("refuses")

    def _listen(self) -> list[Answering]:
        answers: dict[str, Callable[[Question], Answer]] = {
            "health": Health(self._birth.board).answer,
            "metrics": lambda question: answer_metrics(self._collect, question),
        }
        answering = []
        for role, sockets in self._probes.items():
            one = Answering(answers[role])
            for sock in sockets:
                one.listen(sock)
            answering.append(one)
        return answering

    def _collect(self) -> Collected:
        return collect_instance(self._statistics, self._birth.board)

    def _on_message(self) -> None:
        for message in self._channel.receive_all():
            if message is None:
                asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._orders.put_nowait(message)
