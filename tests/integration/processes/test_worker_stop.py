"""worker_stop has its 5 s behind the grace or the drain."""

import pytest
from conversations import wait_until
from running import PROGRAM

SOURCE = PROGRAM.replace(
    "    def fork",
    """    async def worker_stop(self):
        await asyncio.sleep(4)
        open(f"PATH.stopped.{os.getpid()}", "x").close()

    def fork""",
)


@pytest.mark.parametrize("command", ["reload", "stop"])
def test_worker_stop_runs_to_its_end_behind_what_was_cut(proxy, tmp_path, command):
    source = SOURCE.replace('"unix:PATH"', '"127.0.0.1:0"')
    running = proxy("--workers", "1", "--drain", "0.1", "--grace", "0.1", source=source)
    (worker,) = wait_until(running.serving).values()
    with running.connect("/slow") as client:
        assert running.process.stdout.readline() == "slow\n"
        running.ask(command)
        assert client.recv(1) == b""
        wait_until((tmp_path / f"proxy.sock.stopped.{worker}").exists)
