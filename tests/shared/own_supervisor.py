"""A program in a process of its own that calls `server.run()`."""

import contextlib
import os
import subprocess
import sys

from configured import Connection
from conversations import wait_until

from pingora.supervisor import Refused
from pingora.supervisor.control import ask

APP = """\
import os, sys
import pingora

class Proxy(pingora.ProxyHttp):
    def request_filter(self, session, ctx):
        return pingora.Response(200, {}, f"TEXT {sys.argv[1]} {os.getpid()}")

    def upstream_peer(self, session, ctx):
        raise AssertionError

def main():
    server = pingora.Server()
    server.add_proxy(Proxy(), "unix:" + sys.argv[2])
    server.run(workers=WORKERS)
    print(f"{os.getpid()} is behind run()")

main()
"""


class App:
    """A program that is its own supervisor."""

    def __init__(self, directory):
        self.file, self.path, self.control = directory / "app.py", directory / "a", directory / "control.sock"
        self.write("one")
        self.process = None

    def write(self, text, workers=1, source=APP):
        self.file.write_text(source.replace("TEXT", text).replace("WORKERS", str(workers)))

    def start(self, *command, source=None, prefix=()):
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *(command or ["app.py"]), "given", str(self.path)],
            cwd=self.file.parent,
            env={**os.environ, "PINGORA_CONTROL": str(self.control)},
            stdin=source or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.wait_until_it_serves()

    def wait_until_it_serves(self):
        def is_serving():
            with contextlib.suppress(Refused):
                return self.status["state"] == "serving"

        wait_until(is_serving)

    def tell(self, command, **fields):
        return ask(self.control, command, **fields)

    @property
    def status(self):
        return self.tell("status")["status"]

    def answer(self):
        client = Connection(self.path)
        try:
            return client.get().decode().split()
        finally:
            client.close()

    def end(self):
        """Stop whoever serves, and give what all wrote."""
        self.tell("stop")
        return self.process.communicate(timeout=60)
