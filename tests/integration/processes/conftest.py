"""Fixtures of the tests of processes."""

import os
import signal

import pytest
from running import PROGRAM, Running


@pytest.fixture
def start(tmp_path):
    running = []

    def start(*arguments, source=PROGRAM, directory=tmp_path):
        running.append(Running(directory, source, arguments))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.communicate(timeout=60)
