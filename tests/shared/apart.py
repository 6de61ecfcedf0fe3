"""A `pingora run` on a TCP port, in processes of its own, for what must be measured or used up apart from the test."""

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

from free_ports import free_port

PROGRAM = """
import os
import pingora

class Told(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer({origins!r})

    def early_request_filter(self, session, ctx):
        if session.request.path == "/pid":
            return pingora.Response(200, {{}}, str(os.getpid()))

{more}

server = pingora.Server(limits=pingora.Limits({limits}), access_log={access_log!r})
server.add_proxy(Told(), "{address}")
{end}
"""


class Apart:
    """A supervisor with one worker. /pid tells the worker's process id; all else goes to `origins`.

    `more` is Python that stands in the class of the proxy, `end` what stands behind it all; `how` goes to Popen.
    """

    def __init__(
        self,
        directory: Path,
        origins: list[str],
        limits: str = "",
        access_log: str = "off",
        more: str = "",
        end: str = "",
        **how,
    ) -> None:
        self.host, self.port = "127.0.0.1", free_port()
        self.origin_ports = {int(origin.rpartition(":")[2]) for origin in origins}
        file = directory / "told.py"
        address = f"{self.host}:{self.port}"
        more = textwrap.indent(more, "    ")
        file.write_text(
            PROGRAM.format(origins=origins, limits=limits, access_log=access_log, address=address, more=more, end=end)
        )
        command = [sys.executable, "-m", "pingora", "run", str(file), "--workers", "1"]
        how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | how
        self.process = subprocess.Popen(command, start_new_session=True, **how)
        self.worker = self._wait_for_worker()

    @classmethod
    def quiet(cls, directory: Path, origins: list[str], limits: str = "", more: str = "", end: str = "") -> "Apart":
        """One whose error log goes to a file."""
        with (directory / "errors").open("wb") as errors:
            return cls(directory, origins, limits, more=more, end=end, stderr=errors)

    def _wait_for_worker(self) -> int:
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            assert self.process.poll() is None, "it did not start"
            with contextlib.suppress(OSError):
                return int(self.ask("/pid").rpartition(b"\r\n")[2])
            time.sleep(0.01)
        raise AssertionError("it does not answer")

    def connect(self, timeout: float = 10) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout)

    def ask(self, path: str) -> bytes:
        """Return all that comes for one request."""
        answer = b""
        with self.connect() as client:
            client.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
            while more := client.recv(65536):
                answer += more
        return answer

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.worker}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def anonymous_bytes(self) -> int:
        """Bytes of memory that are the worker's own: no files, nothing shared."""
        return self._status_bytes("RssAnon")

    def forget_peak(self) -> None:
        """Let `peak_bytes()` begin with what is resident now."""
        Path(f"/proc/{self.worker}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """The most that was resident at once."""
        return self._status_bytes("VmHWM")

    def _status_bytes(self, name: str) -> int:
        lines = Path(f"/proc/{self.worker}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))

    def n_descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.worker}/fd"))

    def n_clients(self) -> int:
        """Connections of clients that the worker has open."""
        return sum(local == self.port for local, _ in established())

    def n_upstream(self) -> int:
        """Connections to origins, those included that are kept for later."""
        return sum(remote in self.origin_ports for _, remote in established())

    def cpu_seconds(self) -> float:
        """User and system time of the worker so far."""
        fields = Path(f"/proc/{self.worker}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def close(self) -> None:
        """Kill what still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


# sock_diag(7)
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_AND_DUMP, NLMSG_DONE = 4, 20, 0x301, 3
OPEN_STATES = 1 << 1 | 1 << 8  # ESTABLISHED, CLOSE_WAIT
HEADER = struct.Struct("=IHHII")


def established() -> list[tuple[int, int]]:
    """Local and remote port of all connections that are open on their side.

    Asked of the kernel, and not read from /proc/net/tcp: behind a load that has the 100,000 that wait for their end.
    """
    wanted = struct.pack("=BBBBI48x", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, OPEN_STATES)
    header = HEADER.pack(HEADER.size + len(wanted), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_AND_DUMP, 0, 0)
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as kernel:
        kernel.sendall(header + wanted)
        while True:
            answer = kernel.recv(1 << 16)
            while answer:
                size, kind, *_ = HEADER.unpack_from(answer)
                if kind == NLMSG_DONE:
                    return found
                assert kind == SOCK_DIAG_BY_FAMILY, answer[:64]
                found.append(struct.unpack_from("!HH", answer, HEADER.size + 4))
                answer = answer[size + 3 & ~3 :]


@contextlib.contextmanager
def descriptors(wanted: int) -> Iterator[bool]:
    """Let this process, and those it starts, open `wanted` descriptors if that is permitted; whether it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_permitted = hard == resource.RLIM_INFINITY or hard >= wanted
    if is_permitted and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield is_permitted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
