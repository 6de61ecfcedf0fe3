"""`--daemon`: the command waits until the instance serves, and can be ended before."""

import contextlib
import signal
import socket

import pytest
from conversations import wait_until
from running import PROGRAM

from pingora.supervisor.control import ask

WORKER_START = """    async def worker_start(self):
        print("starts", flush=True)
        BODY

    def make_cycle"""
WAITS = PROGRAM.replace("    def make_cycle", WORKER_START.replace("BODY", "await asyncio.sleep(3600)"))
RAISES = PROGRAM.replace("    def make_cycle", WORKER_START.replace("BODY", 'raise RuntimeError("no database")'))


@contextlib.contextmanager
def heeding(number):
    """Let children heed a signal, also if the tests run where it is ignored, as behind nohup."""
    before = signal.signal(number, signal.SIG_DFL)
    yield
    signal.signal(number, before)


def is_gone(control):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(control)) != 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_ends_the_command_that_waits_and_the_instance(start, tmp_path, number):
    control = tmp_path / "control.sock"
    with heeding(number):
        command = start("--daemon", "--control", str(control), source=WAITS)
    assert command.process.stdout.readline() == "starts\n"
    command.process.send_signal(number)
    assert command.process.wait(60) == -number
    wait_until(lambda: is_gone(control))


def test_the_command_fails_if_no_worker_starts(start, tmp_path):
    command = start("--daemon", "--control", str(tmp_path / "control.sock"), source=RAISES)
    _, errors = command.process.communicate(timeout=60)
    assert command.process.returncode == 2
    assert errors.splitlines()[-1].endswith(": RuntimeError: no database")


def test_the_command_returns_when_the_instance_serves(start, tmp_path):
    control = tmp_path / "control.sock"
    command = start("--daemon", "--control", str(control))
    assert command.process.wait(60) == 0
    assert ask(control, "status")["status"]["state"] == "serving"
    ask(control, "stop")
