"""A `pingora run` in a process of its own, and requests to it."""

import errno
import signal
import socket
import subprocess
import sys
from pathlib import Path

from conversations import wait_until

PROGRAM = """
import asyncio, os, signal, sys, time, weakref
import pingora

PARENT = os.getpid()

class Proxy(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer(["127.0.0.1:1"])

    async def request_filter(self, session, ctx):
        path = session.request.path
        if path == "/block":
            print("blocks", flush=True)
            time.sleep(3600)
        if path == "/slow":
            print("slow", flush=True)
            await asyncio.sleep(3600)
        if path == "/upload":
            print("reads", flush=True)
            return pingora.Response(200, {}, await session.read_body())
        if path == "/fork":
            return pingora.Response(200, {}, self.fork())
        if path == "/cycle":
            self.make_cycle()
        return pingora.Response(200, {}, str(os.getpid()))

    def fork(self):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(writing, b"!")
            time.sleep(3600)
        os.read(reading, 1)
        os.kill(pid, signal.SIGTERM)
        return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def make_cycle(self):
        class Miss(Exception):
            pass
        try:
            raise Miss
        except Miss as error:
            kept = error
        weakref.finalize(kept, print, "freed", flush=True)

server = pingora.Server()
server.add_proxy(Proxy(), "unix:PATH")
"""

# The same over TCP, with answers and requests that take their time.
TCP_SOURCE = """
import asyncio, os, time
import pingora

class Proxy(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer(["127.0.0.1:1"])

    async def request_filter(self, session, ctx):
        path = session.request.path
        if path == "/tunnel":
            return None
        if path == "/download":
            return pingora.Response(200, {}, self.slowly())
        if path == "/upload":
            return pingora.Response(200, {}, str(len(await session.read_body())))
        if path == "/block":
            print("blocks", flush=True)
            time.sleep(3600)
        return pingora.Response(200, {}, str(os.getpid()))

    async def slowly(self):
        for _ in range(20):
            yield b"x" * 1000
            await asyncio.sleep(0.05)

server = pingora.Server()
server.add_proxy(Proxy(), "127.0.0.1:0")
"""


class Running:
    """A `pingora run` with workers, and requests to it."""

    def __init__(self, directory, source, arguments, prefix=()):
        self.path = directory / "proxy.sock"
        self.file = directory / "program.py"
        self.write(source)
        command = [*prefix, sys.executable, "-m", "pingora", "run", str(self.file), *arguments]
        # A session of its own, so that a signal to its process group does not reach the tests.
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def write(self, source):
        """Replace the program's file."""
        self.file.write_text(source.replace("PATH", str(self.path)))

    def send(self, target, timeout=60, method="GET", headers="Connection: close\r\n"):
        """Connect as soon as the proxy listens and send a request; return the connection."""
        while True:
            assert self.process.poll() is None, self.process.stderr.read()
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(timeout)
            if client.connect_ex(str(self.path)) == 0:
                client.sendall(f"{method} {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode())
                return client
            client.close()

    def get(self, target="/"):
        """Return the body of an answer: the worker's process id."""
        return int(self.text(target))

    def text(self, target="/"):
        """Return the body of an answer."""
        with self.send(target) as client:
            answer = b""
            while more := client.recv(65536):
                answer += more
        return answer.partition(b"\r\n\r\n")[2].decode()

    def connect(self, target):
        """Send a request to `port`, which whoever started the proxy has found out; return the connection."""
        client = socket.create_connection(("127.0.0.1", self.port), 60)
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return client

    def is_refusing_port(self):
        """True if it listens on `port` no more."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == errno.ECONNREFUSED

    def is_refusing(self):
        """True if it listens no more."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.path)) == errno.ECONNREFUSED

    def workers(self, count):
        """Wait until there are `count` workers, beside the process that loaded the program; return all their ids."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        return wait_until(
            lambda: (found := set(map(int, children.read_text().split()))) and len(found) == count + 1 and found
        )

    def end(self, number=signal.SIGTERM):
        """Signal the supervisor; return its exit code, what was left of its output, and its errors."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, without_greeting(errors)

    def told(self):
        """Give the next line of stderr but the one that says that all workers serve."""
        line = self.process.stderr.readline()
        return line if without_greeting(line) else self.process.stderr.readline()


def without_greeting(errors):
    """Leave out the line that says that all workers serve, which may come or not before an end."""
    return "".join(line for line in errors.splitlines(keepends=True) if not line.startswith("pingora: listening on "))


def is_running(pid):
    """True unless the process is gone or only waits for its parent's wait()."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
