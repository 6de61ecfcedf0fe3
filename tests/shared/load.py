"""Clients that keep asking while something happens to the proxy, and count what became of each request."""

import asyncio
import contextlib
import http.client
import socket
import threading
import time
from dataclasses import dataclass, field

from conversations import more_of, wait_until

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SLICE = b"x" * 1000


@dataclass
class Outcome:
    """What became of the requests. A wait is from connect to the end of the answer."""

    answered: int = 0
    unanswered: int = 0  # the connection ended before the first byte of an answer
    cut: int = 0  # it ended inside the answer
    refused: int = 0  # it could not be made
    echoed: int = 0  # words through tunnels
    longest_s: float = 0.0
    reasons: list[str] = field(default_factory=list)

    @property
    def lost(self):
        return self.unanswered + self.cut + self.refused


class Asking:
    """Threads whose clients ask over and over; every other one has a new connection for each request."""

    def __init__(self, make_client, expected, n_clients):
        self.counts = [0] * n_clients  # of answers, which all have to be `expected`
        self.failures = []
        self._make_client = make_client
        self._expected = expected
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(index,)) for index in range(n_clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def wait_for_all(self):
        """Return when every client has been answered once more, or one has failed."""
        before = list(self.counts)
        wait_until(lambda: self.failures or all(map(int.__gt__, self.counts, before)))

    def _ask(self, index):
        try:
            client = self._make_client()
            while not self._ending.is_set():
                if index % 2:
                    client = self._make_client()
                assert client.get() == self._expected
                self.counts[index] += 1
        except (AssertionError, OSError, http.client.HTTPException) as error:
            self.failures.append(error)


class EchoOrigin:
    """An upstream that switches to another protocol and sends back what it gets; in threads of its own."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._echo, args=self._listener.accept()[:1], daemon=True).start()

    def _echo(self, client):
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += more_of(client)
            client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            while data := client.recv(65536):
                client.sendall(data)

    def close(self):
        self._listener.close()


class Load:
    """A number of clients with kept connections and of such with a new one per request, in a thread of their own.

    `streams` more send an upload and read a download that take `stream_s` seconds each; `tunnels` are upgraded
    connections on which every word must come back for as long as the load lasts.
    """

    def __init__(self, port, kept=8, new=4, streams=0, stream_s=1.0, tunnels=0):
        self.outcome = Outcome()
        self._port = port
        self._counts = kept, new, streams, tunnels
        self._stream_s = stream_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self):
        self._thread.start()
        self.wait_for_answers(20)
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a client waits for ever"

    def wait_for_answers(self, number):
        """Return when so many more requests have been answered."""
        wanted = self.outcome.answered + number
        give_up = time.monotonic() + 30
        while self.outcome.answered < wanted:
            assert time.monotonic() < give_up, self.outcome
            time.sleep(0.005)

    async def _run(self):
        kept, new, streams, tunnels = self._counts
        clients = [self._keep_asking(True) for _ in range(kept)] + [self._keep_asking(False) for _ in range(new)]
        clients += [work() for _ in range(streams) for work in (self._keep_uploading, self._keep_downloading)]
        clients += [self._keep_echoing() for _ in range(tunnels)]
        await asyncio.gather(*clients)

    async def _connect(self):
        try:
            return await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            self.outcome.refused += 1
            self.outcome.reasons.append(repr(error))
            await asyncio.sleep(0.01)
            return None

    async def _keep_asking(self, is_kept):
        connection = None
        while not self._ending.is_set():
            started = time.monotonic()
            connection = connection or await self._connect()
            if connection is None:
                continue
            is_open = await self._exchange(*connection, REQUEST)
            self.outcome.longest_s = max(self.outcome.longest_s, time.monotonic() - started)
            if not (is_kept and is_open):
                connection[1].close()
                connection = None
            await asyncio.sleep(0.002)
        if connection:
            connection[1].close()

    async def _exchange(self, reader, writer, request):
        """Send a request and read the answer; return whether the connection stays open."""
        head = b""
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await self._read_body(reader, head)
        except (asyncio.IncompleteReadError, OSError) as error:
            partial = head or getattr(error, "partial", b"")
            if partial:
                self.outcome.cut += 1
            else:
                self.outcome.unanswered += 1
            self.outcome.reasons.append(repr(error))
            return False
        assert head.startswith(b"HTTP/1.1 200 "), head
        self.outcome.answered += 1
        return b"connection: close" not in head.lower()

    async def _read_body(self, reader, head):
        lower = head.lower()
        if b"chunked" in lower:
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        else:
            await reader.readexactly(int(lower.partition(b"content-length:")[2].split()[0]))

    async def _keep_echoing(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        number = 0
        while not self._ending.is_set():
            number += 1
            word = b"%d\n" % number
            try:
                writer.write(word)
                echoed = await reader.readline()
            except OSError as error:
                echoed = repr(error).encode()
            if echoed != word:
                self.outcome.cut += 1
                self.outcome.reasons.append(f"tunnel: {echoed!r} after {number} words")
                return
            self.outcome.echoed += 1
            await asyncio.sleep(0.01)
        writer.close()

    async def _keep_downloading(self):
        while not self._ending.is_set():
            if connection := await self._connect():
                await self._exchange(*connection, b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n")
                connection[1].close()

    async def _keep_uploading(self):
        while not self._ending.is_set():
            if connection := await self._connect():
                head = f"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {20 * len(SLICE)}\r\n\r\n".encode()
                try:
                    connection[1].write(head)
                    for _ in range(19):
                        connection[1].write(SLICE)
                        await connection[1].drain()
                        await asyncio.sleep(self._stream_s / 20)
                except OSError:
                    pass  # the exchange below says what became of it
                await self._exchange(*connection, SLICE)
                connection[1].close()
