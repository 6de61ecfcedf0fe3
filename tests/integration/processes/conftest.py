"""Fixtures of the tests of processes."""

import os
import signal

import pytest
from running import PROGRAM, Running


@pytest.fixture
def start(tmp_path):
    running = []

    def start(*arguments, source=PROGRAM):
        running.append(Running(tmp_path, source, arguments))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.communicate(timeout=60)
