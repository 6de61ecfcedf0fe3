"""Fixtures of the tests of processes."""

import contextlib
import os
import signal

import pytest
from conversations import wait_until
from own_supervisor import App
from running import PROGRAM, TCP_SOURCE, Running

from pingora.supervisor.control import ask


@pytest.fixture
def start(tmp_path):
    running = []

    def start(*arguments, source=PROGRAM, directory=tmp_path, prefix=()):
        running.append(Running(directory, source, arguments, prefix))
        return running[-1]

    yield start
    for one in running:
        with contextlib.suppress(ProcessLookupError):  # also what an upgrade left in its group
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.communicate(timeout=60)


@pytest.fixture
def proxy(start, tmp_path):
    def start_proxy(*arguments, **more):
        control = tmp_path / "control.sock"
        running = start("--control", str(control), *arguments, **{"source": TCP_SOURCE, **more})
        running.ask = lambda command, **fields: ask(control, command, **fields)
        wait_until(lambda: control.exists() and running.ask("status")["status"]["state"] == "serving")
        running.port = int(running.ask("status")["status"]["listeners"][0].rpartition(":")[2])
        running.serving = lambda: {
            worker["number"]: worker["pid"]
            for generation in running.ask("status")["status"]["generations"]
            for worker in generation["workers"]
            if worker["state"] == "serving"
        }
        running.both = lambda: wait_until(lambda: len(workers := running.serving()) == 2 and workers)
        return running

    return start_proxy


@pytest.fixture
def app(tmp_path):
    app = App(tmp_path)
    yield app
    if app.process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(app.process.pid, signal.SIGKILL)
        app.process.communicate(timeout=60)
