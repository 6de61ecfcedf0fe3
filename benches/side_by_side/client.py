"""A minimal client of the benchmark itself: first contact, validation, idle connections.

HTTP/2 is left to curl, but for connections that stay open.
"""

import enum
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass

from .processes import Started

START_SECONDS = 15.0
POLL_SECONDS = 0.001
TIMEOUT_SECONDS = 10.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS = 1, 4
END_STREAM, ACK, END_HEADERS = 1, 1, 4


class Protocol(enum.Enum):
    """What clients speak to a proxy."""

    HTTP1 = "http"
    TLS = "https"  # HTTP/1.1 in it
    H2C = "h2c"  # HTTP/2 from the first byte

    @property
    def scheme(self) -> str:
        """That of an URL."""
        return "https" if self is Protocol.TLS else "http"


class NotServed(Exception):
    """A process ended, or did not answer in time; the message says why."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


def ask(connection: socket.socket, path: str, headers: Iterable[str] = ()) -> Answer:
    """Send one GET on a kept connection and read the whole answer (framed by Content-Length)."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += receive(connection)
    head = received[:end].decode("latin-1").split("\r\n")
    lengths = [line.partition(":")[2] for line in head if line.lower().startswith("content-length:")]
    if not lengths:
        raise NotServed(f"answer without Content-Length: {head[0]}")
    body = bytearray(received[end + 4 :])
    while len(body) < int(lengths[0]):
        body += receive(connection)
    return Answer(int(head[0].split(" ")[1]), bytes(body))


def receive(connection: socket.socket) -> bytes:
    chunk = connection.recv(256 * 1024)
    if not chunk:
        raise NotServed("connection closed before the end of the answer")
    return chunk


def connect(port: int, protocol: Protocol = Protocol.HTTP1) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
    if protocol is not Protocol.TLS:
        return plain
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the benchmark's own certificate
    return context.wrap_socket(plain)


def ask_h2(connection: socket.socket, path: str) -> None:
    """Begin HTTP/2, send one GET and read to the end of its answer."""
    block = b"\x82\x86\x41\x09127.0.0.1\x04" + bytes([len(path)]) + path.encode()  # RFC 7541: GET, http
    connection.sendall(PREFACE + frame(SETTINGS) + frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
    received = b""
    while True:
        while len(received) < 9:
            received += receive(connection)
        size, kind, flags, stream = int.from_bytes(received[:3]), received[3], received[4], received[5:9]
        while len(received) < 9 + size:
            received += receive(connection)
        received = received[9 + size :]
        if kind == SETTINGS and not flags & ACK:
            connection.sendall(frame(SETTINGS, ACK))
        if int.from_bytes(stream) == 1 and flags & END_STREAM:
            return


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def ask_once(port: int, path: str, headers: Iterable[str] = (), protocol: Protocol = Protocol.HTTP1) -> Answer:
    """Ask on a connection of its own."""
    if protocol is Protocol.H2C:
        return ask_curl(port, path, headers)
    with connect(port, protocol) as connection:
        return ask(connection, path, headers)


def ask_curl(port: int, path: str, headers: Iterable[str]) -> Answer:
    options = [part for header in headers for part in ("-H", header)]
    command = ["curl", "-sS", "--http2-prior-knowledge", "-m", str(TIMEOUT_SECONDS), "-w", "%{stderr}%{http_code}"]
    asked = subprocess.run([*command, *options, f"http://127.0.0.1:{port}{path}"], capture_output=True, check=False)
    if asked.returncode:
        raise NotServed(asked.stderr.decode(errors="replace").strip() or f"curl ended with {asked.returncode}")
    return Answer(int(asked.stderr), asked.stdout)


def wait_until_served(
    process: Started, port: int, path: str, headers: Iterable[str] = (), protocol: Protocol = Protocol.HTTP1
) -> Answer:
    """Return the first answer; NotServed if the process ends or stays silent."""
    deadline = time.monotonic() + START_SECONDS
    why = f"no answer within {START_SECONDS:.0f} s"
    while process.is_running() and time.monotonic() < deadline:
        try:
            return ask_once(port, path, headers, protocol)
        except OSError:
            time.sleep(POLL_SECONDS)
        except NotServed as error:
            why = str(error)
            time.sleep(POLL_SECONDS)
    raise NotServed(why if process.is_running() else process.last_line())
