"""The agent: one process per instance for what is not per request, services with where = "agent" and health probes."""

import asyncio
import contextlib
import signal
import socket

from pingora import snapshots
from pingora.background import RunningServices
from pingora.load_balancing.upkeep import Upkeep
from pingora.observe.output import Output
from pingora.server import Server
from pingora.supervisor.channel import Channel, Message
from pingora.supervisor.health import Health
from pingora.supervisor.life import Birth, live, replace_output, take_snapshot


class Agent:
    """The agent in its own process. It ends when it is told to, or when its supervisor does."""

    def __init__(self, server: Server, birth: Birth, probes: list[socket.socket]) -> None:
        self._server = server
        self._birth = birth
        self._channel: Channel = birth.channel
        self._probes = probes
        self._orders: asyncio.Queue[Message | None] = asyncio.Queue()

    def run(self) -> None:
        """Live; return when told to end."""
        snapshots.send = lambda name, fd: self._channel.send("publish", [fd], name=name)
        live(self._channel, self._server, self._main)

    async def _main(self, output: Output) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._on_message)
        loop.add_signal_handler(signal.SIGTERM, self._orders.put_nowait, None)
        health = Health(self._birth.board)
        for sock in self._probes:
            await health.listen(sock)
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
        health.close()
        with contextlib.suppress(OSError):  # the supervisor is gone
            self._channel.send("refuses")

    def _on_message(self) -> None:
        for message in self._channel.receive_all():
            if message is None:
                asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._orders.put_nowait(message)
