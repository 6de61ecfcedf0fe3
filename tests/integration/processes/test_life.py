"""A worker's life as orders come that its supervisor sent before it knew better."""

import os
import signal
import socket

import pytest
from conversations import wait_until
from running import TCP_SOURCE

from pingora.supervisor.board import Board
from pingora.supervisor.channel import Channel
from pingora.supervisor.life import Birth, Life
from pingora.supervisor.options import Options
from pingora_c.stats.counters import Counters


class Lone:
    """A worker without a supervisor but the test; `said` gives the kind of what it says next."""

    def __init__(self):
        program = {}
        exec(TCP_SOURCE, program)
        server = program["server"]
        server.bind()
        self.address = server.sites[0].sockets[0].getsockname()
        self.board = Board.create()
        self.channel, theirs = Channel.pair()
        self.pid = os.fork()
        if not self.pid:
            try:
                self.channel.close()
                sockets = {"a": server.sites[0].sockets}
                Life(server, Birth(0, Channel(theirs), self.board, Counters(), sockets, Options().for_workers)).run()
            finally:
                os._exit(0)
        theirs.close()
        server.close_listeners()

    def said(self):
        message = self.channel.receive()
        return message and message.kind


@pytest.fixture
def lone():
    lone = Lone()
    assert (lone.said(), lone.said()) == ("hello", "ready")
    yield lone
    lone.channel.close()
    os.kill(lone.pid, signal.SIGKILL)
    os.waitpid(lone.pid, 0)


def test_a_worker_that_was_told_to_end_accepts_nobody_any_more(lone):
    lone.channel.send("accept")
    wait_until(lambda: lone.board.last_beat(0))
    with socket.create_connection(lone.address, 10) as client:  # for whom it lives on
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        lone.channel.send("retire", seconds=60)
        assert lone.said() == "refuses"
        lone.board.clear(0)
        lone.channel.send("accept")
        lone.channel.send("retire", seconds=60)
        assert lone.said() == "refuses"
        assert lone.board.last_beat(0) == 0, "whoever follows it has its slots"
