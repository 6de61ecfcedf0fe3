"""A small HTTP/1.1 listener for probes and metrics: one GET or HEAD per connection, with limits, nothing else."""

import asyncio
import contextlib
import socket
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HEAD_BYTES = 8192
HEAD_S = 5.0
BODY_S = 30.0
AT_A_TIME_MOST = 64  # more are closed unanswered
GZIP_FROM = 1024  # bytes; smaller bodies are sent as they are
# From Python 3.13 on asyncio would remove the file of a socket that another process may listen on.
KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


@dataclass
class Question:
    """What was asked for. Names of fields are in lower case."""

    method: str
    path: str
    fields: dict[str, str]


@dataclass
class Answer:
    """What is answered."""

    status: int
    body: bytes
    kind: str = "text/plain"
    fields: dict[str, str] = field(default_factory=dict)


def parse_question(head: bytes) -> Question | None:
    """Read a request's head; None if it is none."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not parts[1].startswith("/"):
        return None
    pairs = (line.partition(":")[::2] for line in lines)
    fields = {name.strip().lower(): value.strip() for name, value in pairs}
    return Question(parts[0], parts[1].partition("?")[0], fields)


class Answering:
    """Answers on listening sockets what `answer` says; which may take its time, and raise nothing."""

    def __init__(self, answer: Callable[[Question], Answer]) -> None:
        self._answer = answer
        self._servers: list[asyncio.Server] = []
        self._n_open = 0

    async def listen(self, sock: socket.socket) -> None:
        """Answer on a listening socket."""
        if sock.family == socket.AF_UNIX:
            server = await asyncio.start_unix_server(self._on_client, sock=sock, limit=HEAD_BYTES, **KEEP_FILE)
        else:
            server = await asyncio.start_server(self._on_client, sock=sock, limit=HEAD_BYTES)
        self._servers.append(server)

    def close(self) -> None:
        """Answer no more."""
        for server in self._servers:
            server.close()

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._n_open += 1
        try:
            if self._n_open > AT_A_TIME_MOST:
                return
            question = parse_question(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_S))
            if question is None:
                answer = Answer(400, b"expected GET /path HTTP/1.1\n")
            elif question.method not in ("GET", "HEAD"):
                answer = Answer(405, b"GET or HEAD\n", fields={"Allow": "GET, HEAD"})
            else:
                answer = self._answer(question)
            writer.write(encode(question, answer))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(writer.drain(), BODY_S)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # no question, or somebody who went away
        finally:
            self._n_open -= 1
            writer.close()


def encode(question: Question | None, answer: Answer) -> bytes:
    """Write an answer, compressed for whoever takes that."""
    body = answer.body
    fields = {"Content-Type": answer.kind, "Cache-Control": "no-store", "Connection": "close", **answer.fields}
    if question is not None and len(body) >= GZIP_FROM and takes_gzip(question.fields.get("accept-encoding", "")):
        packer = zlib.compressobj(1, wbits=31)
        body = packer.compress(body) + packer.flush()
        fields["Content-Encoding"] = "gzip"
        fields["Vary"] = "Accept-Encoding"
    fields["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"HTTP/1.1 {answer.status} {REASONS[answer.status]}\r\n{lines}\r\n".encode()
    return head + (b"" if question is not None and question.method == "HEAD" else body)


def takes_gzip(accepted: str) -> bool:
    """Say whether an Accept-Encoding field takes gzip (RFC 9110 §12.5.3)."""
    for entry in accepted.lower().split(","):
        coding, _, quality = entry.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return quality.strip("0.") != "" or not quality
    return False
