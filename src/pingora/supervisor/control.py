"""The control socket: what operators ask of a running instance. One JSON object per line, one question per connection.

Only root and the supervisor's own user are heard, by the credentials that the kernel gives.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pingora.supervisor import Refused
from pingora.supervisor.channel import CREDENTIALS

QUESTION_S = 10.0  # that an operator has to ask
QUESTION_BYTES = 65536
GOODBYE_S = 2.0  # that an operator has to take an answer and hang up

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ControlSocket:
    """Answers questions by `commands`; a Refused that one raises is an answer. Owns the socket and its file.

    If it `waits`, an answer has been given when the operator has hung up.
    """

    def __init__(self, path: Path, sock: socket.socket, commands: dict[str, Command], waits: bool = False) -> None:
        self.path = path
        self._waits = waits
        self._sock = sock
        self._commands = commands
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen from now on."""
        self._server = await asyncio.start_unix_server(self._on_client, sock=self._sock, limit=QUESTION_BYTES)

    def stop_listening(self) -> None:
        """Remove the file; questions that were asked are still answered."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Give the answers that are due, then close."""
        if self._answering:
            await asyncio.wait(self._answering, timeout=GOODBYE_S)
        self.stop_listening()

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            await self._converse(reader, writer)
        except (TimeoutError, OSError, ValueError):
            pass  # the operator is gone, or is none
        finally:
            self._answering.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        uid = CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))[1]
        if uid not in (0, os.geteuid()):
            return
        question = json.loads(await asyncio.wait_for(reader.readline(), QUESTION_S))
        command = self._commands.get(question.get("command"))
        try:
            if command is None:
                raise Refused("this instance does not know the command; its version is another")
            answer = {"ok": True, **await command(question)}
        except Refused as error:
            answer = {"ok": False, "text": str(error)}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        if self._waits:
            await asyncio.wait_for(reader.read(1), GOODBYE_S)


def ask(path: Path, command: str, **fields: Any) -> dict[str, Any]:
    """Ask a running instance and wait for its answer. Raises Refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        return converse(sock, path, command, **fields)


def converse(sock: socket.socket, path: Path, command: str, **fields: Any) -> dict[str, Any]:
    """Ask over a socket of the caller's, which an instance that ends waits for to be closed. Raises Refused."""
    try:
        sock.connect(str(path))
        sock.sendall(json.dumps({"command": command, **fields}).encode() + b"\n")
        with sock.makefile("rb") as lines:
            answer = lines.readline()
    except OSError as error:
        raise Refused(f"no instance answers at {path}: {error.strerror}") from None
    if not answer:
        raise Refused(f"the instance at {path} ended before it answered, or does not answer this user")
    fields = json.loads(answer)
    if not fields.pop("ok"):
        raise Refused(fields["text"])
    return fields


def write_pid_file(path: Path) -> None:
    """Write our process id; whole or not at all, and never through a link that somebody prepared."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "w") as file:
            file.write(f"{os.getpid()}\n")
        temporary.rename(path)
    except OSError as error:
        raise Refused(f"cannot write the pid file {path}: {error.strerror}") from None


def remove_pid_file(path: Path) -> None:
    """Remove the pid file if it is still ours."""
    with contextlib.suppress(OSError, ValueError):
        if int(path.read_text()) == os.getpid():
            path.unlink()
