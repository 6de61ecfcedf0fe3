"""Clients and an origin that a test drives step by step around a live proxy, without threads of their own.

Nothing is sent or taken but in `Scene.pump`, so what the proxy sees happens in the order of the test's steps. All
requests are written and all messages read by h11.
"""

import contextlib
import random
import selectors
import socket
from dataclasses import dataclass, field

import h11
from inside import RESET

IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}


def content(number: int, size: int) -> bytes:
    """A body that is told from all others by its number."""
    return random.Random(number).randbytes(size)


@dataclass
class Sent:
    """A request of a client, and what came for it."""

    number: int
    method: str
    body: bytes
    parser: h11.Connection
    data: bytes
    left: int  # bytes of `data` not yet sent
    interim: list[int] = field(default_factory=list)
    head: h11.Response | None = None
    received: bytearray = field(default_factory=bytearray)
    is_whole: bool = False

    @property
    def from_origin(self) -> int | None:
        """The number of the attempt whose answer this is; None: the proxy's own, or none yet."""
        values = [value for name, value in self.head.headers if name == b"x-attempt"] if self.head else []
        return int(values[0]) if values else None

    @property
    def ends_connection(self) -> bool:
        return self.head is not None and (b"connection", b"close") in list(self.head.headers)


@dataclass
class Attempt:
    """A request as the origin got it, and the answer that it gives."""

    number: int
    connection: "OriginConnection"
    request: int
    method: str
    body: bytearray = field(default_factory=bytearray)
    is_whole: bool = False
    answer: bytes = b""  # the body
    framing: str = ""  # "" until the head of the answer was sent
    n_sent: int = 0
    is_answered: bool = False  # the whole answer was given
    is_broken: bool = False  # the origin ended the connection before the answer's end


class End:
    """A socket that never blocks, and what waits to be sent on it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.out = bytearray()
        self.is_open = True

    def flush(self) -> bool:
        """Send what can be sent; whether that was anything."""
        if not self.out or not self.is_open:
            return False
        try:
            n = self.sock.send(self.out)
        except BlockingIOError:
            return False
        except OSError:
            self.out.clear()  # nobody takes it; what came before is read as ever
            return True
        del self.out[:n]
        if not self.out:
            self.on_sent()
        return True

    def read(self) -> None:
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.on_data(data)
        else:
            self.on_end()

    def close(self, is_reset: bool = False) -> None:
        if self.is_open:
            self.is_open = False
            if is_reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.sock.close()

    def on_sent(self) -> None:
        pass

    def on_data(self, data: bytes) -> None:
        raise NotImplementedError

    def on_end(self) -> None:
        raise NotImplementedError


class Client(End):
    """A connection to the proxy. `requests` in order; what is in `waiting` was made but not given to the socket."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.requests: list[Sent] = []
        self.waiting = bytearray()
        self.has_left = False  # this side ended it
        self.has_ended_side = False
        self.was_ended = False  # by the proxy

    def ask(self, number: int, method: str, size: int, is_chunked: bool, parts: int, fields: list) -> None:
        body = content(number, size)
        headers = [("Host", "a"), ("X-Id", str(number)), *fields]
        if is_chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        elif size or method in ("POST", "PUT"):
            headers.append(("Content-Length", str(size)))
        parser = h11.Connection(h11.CLIENT)
        data = parser.send(h11.Request(method=method, target=f"/{number}", headers=headers))
        step = size // parts + 1
        for at in range(0, size, step):
            data += parser.send(h11.Data(data=body[at : at + step]))
        data += parser.send(h11.EndOfMessage())
        self.requests.append(Sent(number, method, body, parser, data, len(data)))
        self.waiting += data

    def send(self, size: int) -> None:
        part = self.waiting[:size]
        del self.waiting[:size]
        self.out += part
        n = len(part)
        for request in self.requests:
            used = min(n, request.left)
            request.left -= used
            n -= used

    def on_data(self, data: bytes) -> None:
        for request in self.requests:
            if request.is_whole:
                continue
            if data:
                request.parser.receive_data(data)
            if not self.take(request):
                return
            data = request.parser.trailing_data[0]
        assert data == b"", f"an answer to nothing: {data!r}"

    def take(self, request: Sent) -> bool:
        """Read events; whether the answer is whole."""
        while True:
            event = request.parser.next_event()
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.InformationalResponse):
                request.interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                request.head = event
            elif isinstance(event, h11.Data):
                request.received += event.data
            elif isinstance(event, h11.EndOfMessage):
                request.is_whole = True
                return True
            else:
                return False

    def on_end(self) -> None:
        """The proxy ended the connection: an answer to the end of the connection is whole, any other is cut."""
        self.was_ended = True
        self.close()

    @property
    def first_open(self) -> Sent | None:
        return next((request for request in self.requests if not request.is_whole), None)


class OriginConnection(End):
    """A connection of the proxy to the origin."""

    def __init__(self, sock: socket.socket, origin: "Scene") -> None:
        super().__init__(sock)
        self.scene = origin
        self.parser = h11.Connection(h11.SERVER)
        self.attempt: Attempt | None = None
        self.was_used = False
        self.ends = False  # with the present answer

    def on_sent(self) -> None:
        """End, but read on: a close with bytes unread would reset the connection, and the answer could be lost."""
        if self.ends and self.is_open and self.attempt.is_answered:
            with contextlib.suppress(OSError):  # the proxy may have closed already
                self.sock.shutdown(socket.SHUT_WR)

    def on_data(self, data: bytes) -> None:
        self.parser.receive_data(data)
        while (event := self.parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                number = int(dict(event.headers)[b"x-id"])
                assert event.target == b"/%d" % number
                self.attempt = Attempt(len(self.scene.attempts), self, number, event.method.decode())
                self.scene.attempts.append(self.attempt)
            elif isinstance(event, h11.Data):
                self.attempt.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.attempt.is_whole = True
            else:
                return
        if event is h11.PAUSED:
            assert self.parser.trailing_data[0] == b"", "the proxy sent more than a request"

    def on_end(self) -> None:
        self.close()

    def close(self, is_reset: bool = False) -> None:
        attempt = self.attempt
        if self.is_open and attempt is not None and not attempt.is_answered:
            n_gone = attempt.n_sent - len(self.out)
            if attempt.framing == "close" and n_gone >= 0 and not is_reset:
                attempt.answer = attempt.answer[:n_gone]  # nobody can see that there would have been more
                attempt.is_answered = True
            else:
                attempt.is_broken = True
        super().close(is_reset)

    def interim(self, status: int) -> None:
        self.out += b"HTTP/1.1 %d Interim\r\n\r\n" % status

    def answer(self, framing: str, size: int) -> None:
        """Begin the answer: its head."""
        attempt = self.attempt
        attempt.answer, attempt.framing = content(-attempt.number - 1, size), framing
        self.out += b"HTTP/1.1 200 OK\r\nX-Attempt: %d\r\nX-Id: %d\r\n" % (attempt.number, attempt.request)
        if framing == "length":
            self.out += b"Content-Length: %d\r\n" % size
        elif framing == "chunked":
            self.out += b"Transfer-Encoding: chunked\r\n"
        if framing == "close" or not attempt.is_whole:
            self.out += b"Connection: close\r\n"  # before the end of the request it will not read the rest of it
            self.ends = True
        self.out += b"\r\n"

    def more(self, size: int) -> None:
        """Send the next part of the answer, and its end behind the last."""
        attempt = self.attempt
        part = attempt.answer[attempt.n_sent : attempt.n_sent + size] if attempt.method != "HEAD" else b""
        attempt.n_sent += len(part)
        is_last = attempt.method == "HEAD" or attempt.n_sent == len(attempt.answer)
        if attempt.framing == "chunked" and attempt.method != "HEAD":
            self.out += b"%x\r\n%s\r\n" % (len(part), part) if part else b""
            self.out += b"0\r\n\r\n" if is_last else b""
        else:
            self.out += part
        if not is_last:
            return
        attempt.is_answered = True
        self.was_used = True
        if self.ends:
            if not self.out:
                self.on_sent()
        else:
            self.parser = h11.Connection(h11.SERVER)
            self.attempt = None


class Scene:
    """A proxy with its clients and its origin."""

    def __init__(self, proxy, listener: socket.socket) -> None:
        self.proxy = proxy
        self.listener = listener
        listener.setblocking(False)
        self.clients: list[Client] = []
        self.origins: list[OriginConnection] = []
        self.attempts: list[Attempt] = []
        self.n_lost = 0  # connections that the origin ended while they waited for a request

    def connect(self) -> None:
        self.clients.append(Client(self.proxy.connect()))

    def pump(self, timeout: float = 0) -> bool:
        """Let all that can move move once; whether anything did."""
        moved = False
        for end in [*self.clients, *self.origins]:
            moved |= end.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ, None)
            for end in [*self.clients, *self.origins]:
                if end.is_open:
                    selector.register(end.sock, selectors.EVENT_READ, end)
            for key, _ in selector.select(0 if moved else timeout):
                moved = True
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        self.origins.append(OriginConnection(self.listener.accept()[0], self))
                elif key.data.is_open:
                    key.data.read()
        return moved

    def rest(self) -> None:
        """Return when nothing moves any more: two answers of the proxy apart, nothing came."""
        calm = 0
        while calm < 2:
            assert self.proxy.exchange(b"?\r\n\r\n").startswith(b"HTTP/1.1 400 ")
            calm = 0 if self.pump() else calm + 1

    def working(self) -> list[OriginConnection]:
        """The origin's connections with a request that has no whole answer yet."""
        return [one for one in self.origins if one.is_open and one.attempt is not None and not one.attempt.is_answered]

    def idle(self) -> list[OriginConnection]:
        return [one for one in self.origins if one.is_open and one.attempt is None]

    def close(self) -> None:
        """End all connections, those too that the proxy opens because of it."""
        for end in self.clients:
            end.close()
        self.rest()
        for end in self.origins:
            end.close()
        self.rest()

    def describe(self) -> str:
        """What is on its way, for the message of a test that waited in vain."""
        lines = []
        for client in self.clients:
            one = client.first_open
            if client.is_open and one is not None:
                lines.append(f"client waits for {one.method} {one.number}, of which {one.left} bytes are left")
        for one in self.origins:
            if one.is_open and one.attempt is not None:
                lines.append(
                    f"origin: {one.attempt.request}, whole {one.attempt.is_whole}, answer {one.attempt.framing!r}"
                )
        return "; ".join(lines)
