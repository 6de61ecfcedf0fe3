"""A minimal HTTP/1.1 client of the benchmark itself: first contact, validation, idle connections."""

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from .processes import Started

START_SECONDS = 15.0
POLL_SECONDS = 0.001
TIMEOUT_SECONDS = 10.0


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


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)


def ask_once(port: int, path: str, headers: Iterable[str] = ()) -> Answer:
    """Ask on a connection of its own."""
    with connect(port) as connection:
        return ask(connection, path, headers)


def wait_until_served(process: Started, port: int, path: str, headers: Iterable[str] = ()) -> Answer:
    """Return the first answer; NotServed if the process ends or stays silent."""
    deadline = time.monotonic() + START_SECONDS
    why = f"no answer within {START_SECONDS:.0f} s"
    while process.is_running() and time.monotonic() < deadline:
        try:
            return ask_once(port, path, headers)
        except OSError:
            time.sleep(POLL_SECONDS)
        except NotServed as error:
            why = str(error)
            time.sleep(POLL_SECONDS)
    raise NotServed(why if process.is_running() else process.last_line())
