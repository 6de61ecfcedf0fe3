"""Serving in the present process until a signal asks for the end: for debuggers and notebooks."""

import asyncio
import os
import signal
import socket
import traceback

from pingora import metrics
from pingora.echoes import Echoes
from pingora.limits import raise_descriptor_limit
from pingora.loop import run
from pingora.observe.answering import Answering
from pingora.observe.output import Output
from pingora.observe.scrape import answer_metrics, collect_here
from pingora.replaced import WORKER_STOP_S
from pingora.server import Server
from pingora.serving import Serving
from pingora.supervisor import say
from pingora.usage import UsageError
from pingora_c.stats.counters import Counters


async def started(serving: Serving, first: "asyncio.Task[int]") -> bool:
    """Start; False if the first signal came before that was done. Raises UsageError if a `worker_start` raised."""
    starting = asyncio.create_task(serving.start())
    await asyncio.wait((starting, first), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,), timeout=WORKER_STOP_S)
        return False
    try:
        await starting
    except Exception as error:
        say(f"the server cannot start\n{traceback.format_exc().rstrip()}")
        raise UsageError(f"the server cannot start: {type(error).__name__}: {error}") from error
    return True


async def serve_forever(server: Server, output: Output, grace: float, shown: socket.socket | None) -> None:
    """Serve until SIGTERM or SIGINT; what still runs is cut by SIGINT, by a second signal, or after `grace` seconds.

    Metrics are shown on the listening socket `shown`. Raises UsageError if it cannot start.
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
    first = loop.create_task(asked.get())
    try:
        if not await started(serving, first):
            return
        serving.accept()
        if shown is not None:
            answering.listen(shown)
        say(f"listening on {', '.join(serving.addresses)} with 0 workers, process {os.getpid()}")
        if (reloader := server.reloader(serving)) is not None:
            reloader.follow_signals()
        is_patient = await first == signal.SIGTERM
        draining = loop.create_task(serving.drain(grace if is_patient else 0.0))
        cut = loop.create_task(asked.get())
        await asyncio.wait((draining, cut), return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, cut):
            task.cancel()
    finally:
        first.cancel()
        reports.cancel()
        answering.close()
        metrics.place.use(None)
        serving.close()


def serve_until_signal(server: Server, grace: float, shown: socket.socket | None) -> None:
    """Serve in the present process. The user's program keeps its garbage collector. Raises UsageError if it cannot."""
    raise_descriptor_limit()
    output = Output(server.log_level)
    try:
        run(server.choose_loop(), serve_forever(server, output, grace, shown))
    finally:
        output.close()
