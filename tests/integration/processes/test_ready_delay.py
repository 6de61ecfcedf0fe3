"""--ready-delay: whatever happens in the delay, /ready says that the end is near, and a second stop cuts."""

import http.client
import os
import signal

import pytest
from conversations import wait_until
from free_ports import free_port
from running import PROGRAM


def kill_a_worker(running):
    os.kill(running.serving()[0], signal.SIGKILL)


def reload(running):
    running.ask("reload")


@pytest.mark.parametrize("replace", [kill_a_worker, reload])
def test_workers_that_are_replaced_in_the_delay_do_not_make_it_ready(proxy, replace):
    port = free_port()
    options = ["--workers", "2", "--health", f"127.0.0.1:{port}", "--ready-delay", "3600", "--grace", "3600"]
    running = proxy(*options, source=PROGRAM.replace('"unix:PATH"', '"127.0.0.1:0"'))

    def ready():
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        client.request("GET", "/ready")
        return client.getresponse().status

    def all_serve():
        return len(running.serving()) == 3 and running.serving()

    before = wait_until(all_serve)
    wait_until(lambda: ready() == 200)
    running.process.terminate()
    wait_until(lambda: ready() == 503)
    replace(running)
    wait_until(lambda: all_serve() and running.serving() != before)
    assert ready() == 503
    with running.connect("/slow") as client:
        assert running.process.stdout.readline() == "slow\n"
        assert running.ask("stop")["text"] == "stopped"
        assert client.recv(1) == b""
    assert running.process.wait(60) == 0
