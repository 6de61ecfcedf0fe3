"""`pingora run` on a configuration file, and requests to it over a Unix socket."""

import contextlib
import http.client
import queue
import signal
import socket
import subprocess
import sys
import threading

from conversations import wait_until

PINGORA = [sys.executable, "-m", "pingora"]


class Connection(http.client.HTTPConnection):
    """A client's connection to a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))

    def get(self, target="/"):
        self.request("GET", target)
        return self.getresponse().read()


class Running:
    """`pingora run` on a file; `lines` gets what it writes to stderr."""

    def __init__(self, file, *arguments):
        self.process = subprocess.Popen(
            [*PINGORA, "run", str(file), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines = queue.Queue()
        self.output = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stderr, self.lines.put), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stdout, self.output.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, take):
        for line in stream:
            take(line)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def expect(self, text):
        """Wait for a line with this text, and return it."""
        while True:
            line = self.lines.get(timeout=20)
            if text in line:
                return line

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0
        for reader in self._readers:
            reader.join(10)


@contextlib.contextmanager
def starting(directory):
    """Give a function that runs a file which listens on "a" in the directory; what it started ends here."""
    started = []

    def start(file, *arguments):
        started.append(Running(file, *arguments))
        wait_until(lambda: answers(directory / "a") or started[-1].process.poll() is not None)
        return started[-1]

    try:
        yield start
    finally:
        for running in started:
            running.process.kill()
            running.process.wait()


def answers(path):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return True
    return False


def write(directory, *lines):
    """Write pingora.toml, with DIR for the directory; return its path."""
    file = directory / "pingora.toml"
    file.write_text("\n".join(lines).replace("DIR", str(directory)))
    return file
