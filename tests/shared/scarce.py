"""A proxy in a process of its own, whose buffers' memory a test makes scarce: a crash fails the test and no more."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
import asyncio, json, sys
from unread_answers import held
from pingora import HttpPeer, ProxyHttp
from pingora.testing import RunningProxy
from pingora_c.mem.buffer_pool import set_limit, stats

class To(ProxyHttp):
    peer = HttpPeer(sys.argv[1], protocol=sys.argv[2])

    def upstream_peer(self, session, ctx):
        return self.peer

def turn():
    for _ in range(20):
        proxy.call(asyncio.sleep(0))

proxy = RunningProxy(To())
whole = stats()["limit_bytes"]
print(json.dumps(proxy.address), flush=True)
for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
proxy.close()
"""


class Scarce:
    """A proxy without hooks before one origin, and with what it lets its tests see and set."""

    def __init__(self, origin: str, protocol: str = "h1") -> None:
        path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, origin, protocol],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        self.host, _, port = self._answer().rpartition(":")
        self.port = int(port)

    def __enter__(self) -> "Scarce":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def connect(self, timeout: float = 5) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout)

    def _answer(self) -> Any:
        line = self.process.stdout.readline()
        assert line, f"the proxy's process has ended with {self.process.wait()}"
        return json.loads(line)

    def ask(self, expression: str) -> Any:
        """Return what an expression is there; fails if the process has died."""
        assert self.process.poll() is None, f"the proxy's process has ended with {self.process.returncode}"
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self._answer()

    def leave_room(self, size: int) -> None:
        """Let the buffers have only so many bytes more than they hold."""
        self.ask(f"set_limit(held() + {size})")

    def leave_all(self) -> None:
        """Let them have as much as at first."""
        self.ask("set_limit(whole)")

    def turn(self) -> None:
        """Return when the proxy has taken what was sent to it before."""
        self.ask("turn()")

    def held(self) -> int:
        return self.ask("held()")

    def counted(self, name: str) -> float:
        return self.ask(f"proxy.serving.counters[{name!r}]")
