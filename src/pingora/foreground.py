"""Serving in the present process until a signal asks for the end: for debuggers and notebooks."""

import asyncio
import os
import signal
import socket

from pingora import metrics
from pingora.echoes import Echoes
from pingora.limits import raise_descriptor_limit
from pingora.loop import run
from pingora.observe.answering import Answering
from pingora.observe.output import Output
from pingora.observe.scrape import answer_metrics, collect_here
from pingora.server import Server
from pingora.serving import Serving
from pingora.supervisor import say
from pingora_c.stats.counters import Counters


async def serve_forever(server: Server, output: Output, grace: float, shown: socket.socket | None) -> None:
    """Serve until SIGTERM or SIGINT; what still runs is cut by SIGINT, by a second signal, or after `grace` seconds.

    Metrics are shown on the listening socket `shown`.
    """
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[int] = asyncio.Queue()
    echoes = Echoes()

    def on_signal(number: int) -> None:
        if not echoes.is_echo(number):
            asked.put_nowait(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # none was lost meanwhile
    counters = Counters()
    metrics.place.use(counters)
    serving = Serving(server, loop, output.stdout, counters)
    answering = Answering(lambda question: answer_metrics(lambda: collect_here(serving), question))
    reports = loop.create_task(output.report_losses())
    try:
        await serving.start()
        serving.accept()
        if shown is not None:
            answering.listen(shown)
        say(f"listening on {', '.join(serving.addresses)} with 0 workers, process {os.getpid()}")
        if (reloader := server.reloader(serving)) is not None:
            reloader.follow_signals()
        is_patient = await asked.get() == signal.SIGTERM
        draining = loop.create_task(serving.drain(grace if is_patient else 0.0))
        cut = loop.create_task(asked.get())
        await asyncio.wait((draining, cut), return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, cut):
            task.cancel()
    finally:
        reports.cancel()
        answering.close()
        metrics.place.use(None)
        serving.close()


def serve_until_signal(server: Server, grace: float, shown: socket.socket | None) -> None:
    """Serve in the present process. The user's program keeps its garbage collector."""
    raise_descriptor_limit()
    output = Output(server.log_level)
    try:
        run(server.choose_loop(), serve_forever(server, output, grace, shown))
    finally:
        output.close()
