"""A small HTTP/1.1 listener for probes and metrics: one GET or HEAD per connection, with limits, nothing else."""

import asyncio
import contextlib
import errno
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

HEAD_BYTES = 8192
HEAD_S = 5.0
BODY_S = 30.0
AT_A_TIME_MOST = 64  # more are closed unanswered
ACCEPT_AGAIN_S = 1.0  # after a client that could not be accepted, for want of descriptors
GZIP_FROM = 1024  # bytes; smaller bodies are sent as they are
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
        self._accepting: list[asyncio.Task[None]] = []
        self._clients: set[asyncio.Task[None]] = set()
        self._n_open = 0

    def listen(self, sock: socket.socket) -> None:
        """Answer on a listening socket, until `close` or until its supervisor shuts it down; close it then."""
        sock.setblocking(False)
        self._accepting.append(asyncio.get_running_loop().create_task(self._accept(sock)))

    def close(self) -> None:
        """Answer no more."""
        for task in self._accepting:
            task.cancel()

    async def _accept(self, sock: socket.socket) -> None:
        # No asyncio.Server: it logs a traceback if the socket is shut down, and from Python 3.13 on it removes the file
        # of a Unix socket that another process may listen on.
        loop = asyncio.get_running_loop()
        with sock:
            while True:
                try:
                    client, _ = await loop.sock_accept(sock)
                except OSError as error:
                    if error.errno == errno.EINVAL:
                        return  # it has been shut down, as accept(2) says so
                    await asyncio.sleep(ACCEPT_AGAIN_S)
                    continue
                task = loop.create_task(self._on_client(client))
                self._clients.add(task)
                task.add_done_callback(self._clients.discard)

    async def _on_client(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=client, limit=HEAD_BYTES)
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
