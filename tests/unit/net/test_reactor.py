"""The wait of a reactor for a loop: what ends it, and what it says."""

import os
import select
import signal
import threading
import time

import pytest

from pingora_c.net.reactor import Reactor

LONG_S = 30.0


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def loop_fd(pipe):
    """The epoll of a loop that waits for the pipe."""
    with select.epoll() as epoll:
        epoll.register(pipe[0], select.EPOLLIN)
        yield epoll.fileno()


@pytest.fixture
def reactor(loop_fd):
    reactor = Reactor(None, None, loop_fd)
    yield reactor
    reactor.close()


@pytest.fixture
def on_signal():
    """Let a function be called by signals that come again and again, so that one of them meets the wait."""
    before = signal.getsignal(signal.SIGUSR2)
    has_ended = threading.Event()

    def send():
        while not has_ended.wait(0.05):
            os.kill(os.getpid(), signal.SIGUSR2)

    sender = threading.Thread(target=send)

    def install(function):
        signal.signal(signal.SIGUSR2, lambda number, frame: function())
        sender.start()

    yield install
    has_ended.set()
    sender.join()
    signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_time_ends_it(reactor, timeout):
    began = time.monotonic()
    assert not reactor.wait([], [], timeout)
    assert time.monotonic() - began >= timeout


def test_an_event_of_the_loop_ends_it(reactor, pipe):
    threading.Timer(0.02, os.write, (pipe[1], b"x")).start()
    assert reactor.wait([], [], None)
    assert reactor.wait([], [], None), "the loop has not read it yet"
    os.read(pipe[0], 1)
    assert not reactor.wait([], [], 0)


@pytest.mark.parametrize("list_name", ["ready", "scheduled"])
def test_what_became_due_meanwhile_ends_it(reactor, on_signal, list_name):
    lists = {"ready": [], "scheduled": ["a timer that it knows"]}
    on_signal(lambda: lists[list_name].append("more"))
    began = time.monotonic()
    assert not reactor.wait(lists["ready"], lists["scheduled"], LONG_S)
    assert time.monotonic() - began < LONG_S


def test_an_exception_ends_it(reactor, on_signal):
    waits = []

    def fail():
        if waits:
            raise KeyError(waits.pop())

    def wait():
        waits.append("of the handler")
        reactor.wait([], [], LONG_S)

    on_signal(fail)
    with pytest.raises(KeyError, match="of the handler"):
        wait()


def test_a_closed_one_has_nothing_to_wait_for(reactor, on_signal):
    on_signal(reactor.close)
    assert reactor.wait([], [], LONG_S)
    assert reactor.is_closed
