"""Health probes for load balancers: /live while the instance runs, /ready while new clients are welcome."""

import asyncio
import contextlib
import socket

from pingora.supervisor.board import Board, now_ms

HEAD_BYTES = 8192
HEAD_S = 5.0
PROBES_MOST = 64  # at a time; more are closed unanswered
STALE_MS = 1000  # without a sign of life, a worker does not count as one that serves
ANSWERS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Health:
    """Answers probes by what the board says."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._servers: list[asyncio.Server] = []
        self._n_open = 0

    async def listen(self, sock: socket.socket) -> None:
        """Answer on a listening socket."""
        if sock.family == socket.AF_UNIX:
            server = await asyncio.start_unix_server(self._on_probe, sock=sock, limit=HEAD_BYTES)
        else:
            server = await asyncio.start_server(self._on_probe, sock=sock, limit=HEAD_BYTES)
        self._servers.append(server)

    def close(self) -> None:
        """Answer no more."""
        for server in self._servers:
            server.close()

    @property
    def is_ready(self) -> bool:
        """Whether the supervisor wants new clients and a worker is there for them."""
        latest = now_ms() - STALE_MS
        return self._board.is_ready and any(
            self._board.last_beat(number) >= latest for number in range(self._board.n_workers)
        )

    def judge(self, line: bytes) -> tuple[int, str]:
        """Give the status and the text for a request line."""
        method, _, rest = line.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path not in ("/live", "/ready"):
            return 404, "/live or /ready"
        if method not in ("GET", "HEAD"):
            return 405, "GET or HEAD"
        if path == "/live":
            return 200, "live"
        return (200, "ready") if self.is_ready else (503, "not ready")

    async def _on_probe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._n_open += 1
        try:
            if self._n_open > PROBES_MOST:
                return
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_S)
            status, text = self.judge(head.partition(b"\r\n")[0])
            body = "" if head.startswith(b"HEAD ") else f"{text}\n"
            fields = f"Content-Type: text/plain\r\nContent-Length: {len(text) + 1}\r\nCache-Control: no-store\r\n"
            answer = f"HTTP/1.1 {status} {ANSWERS[status]}\r\n{fields}Connection: close\r\n\r\n{body}"
            writer.write(answer.encode())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(writer.drain(), HEAD_S)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # no probe, or one that went away
        finally:
            self._n_open -= 1
            writer.close()
