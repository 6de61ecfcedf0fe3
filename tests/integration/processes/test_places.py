"""Places of workers: none stays empty, whatever happens while an operation runs."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from conversations import wait_until
from running import TCP_SOURCE, is_running

# While a file "hold" is there, the first worker that starts is ready at once and the others wait; its service says so.
HOLDS = TCP_SOURCE.replace(
    "    async def slowly",
    """    async def worker_start(self):
        if os.path.exists("PATH.hold"):
            try:
                os.unlink("PATH.first")
            except FileNotFoundError:
                while os.path.exists("PATH.hold"):
                    await asyncio.sleep(0.01)
            else:
                Proxy.is_first = True

    is_first = False

    async def slowly""",
).replace(
    "server = pingora.Server()",
    """class Tells(pingora.BackgroundService):
    async def run(self):
        if Proxy.is_first:
            with open("PATH.new", "w") as file:
                file.write(str(os.getpid()))
            os.rename("PATH.new", "PATH.ready")

server = pingora.Server()
server.add_service(Tells())""",
)


@pytest.mark.parametrize(
    ("command", "fields", "number"),
    [("reload", {}, 2), ("scale", {"workers": 4}, 4), ("upgrade", {}, 2)],
    ids=["reload", "scale", "upgrade"],
)
def test_a_worker_that_dies_before_the_others_are_ready_is_replaced(proxy, tmp_path, command, fields, number):
    hold, first, ready = (tmp_path / f"proxy.sock.{name}" for name in ("hold", "first", "ready"))
    running = proxy("--workers", "2", source=HOLDS)
    running.both()
    for file in (hold, first):
        file.touch()

    def uptime():
        return running.ask("status")["status"]["uptime"]

    with ThreadPoolExecutor() as pool:
        doing = pool.submit(running.ask, command, **fields)
        wait_until(ready.exists)
        killed = int(ready.read_text())
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not is_running(killed))
        ended = uptime()
        wait_until(lambda: uptime() > ended + 0.5)  # the first try to start another one is over
        hold.unlink()
        doing.result()
    wait_until(lambda: set(running.serving()) == set(range(number)))
    assert killed not in running.serving().values()
    assert running.end()[0] == 0
