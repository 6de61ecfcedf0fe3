"""An origin that takes requests only in the one form in which a proxy should send them, and keeps what it got."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable

from h11_judge import Request

LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!\"$-~]+) HTTP/1\.1")
FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)")
SIZE = re.compile(rb"0|[1-9a-f][0-9a-f]{0,15}")


class NotCanonical(Exception):
    """What came is no request in its one form."""


class Ended(Exception):
    """The other side ended before the end of a message."""


class Reader:
    """Reads requests from a socket. Bytes behind a request stay for the next one."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""

    def more(self) -> None:
        part = self.sock.recv(1 << 18)
        if not part:
            raise Ended
        self.data += part

    def line(self) -> bytes:
        """Take a line; CR and LF occur nowhere but at its end."""
        while b"\n" not in self.data:
            self.more()
        line, _, self.data = self.data.partition(b"\n")
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise NotCanonical(f"line end: {line!r}")
        return line[:-1]

    def take(self, size: int) -> bytes:
        while len(self.data) < size:
            self.more()
        part, self.data = self.data[:size], self.data[size:]
        return part

    def section(self) -> list[tuple[bytes, bytes]]:
        fields = []
        while line := self.line():
            match = FIELD.fullmatch(line)
            if match is None:
                raise NotCanonical(f"field: {line!r}")
            fields.append((match[1], match[2]))
        return fields

    def request(self) -> Request:
        line = self.line()
        match = LINE.fullmatch(line)
        if match is None:
            raise NotCanonical(f"request line: {line!r}")
        request = Request(match[1], match[2], b"1.1", self.section())
        lengths, codings = request.values(b"content-length"), request.values(b"transfer-encoding")
        if len(lengths) + len(codings) > 1:
            raise NotCanonical(f"framing: {lengths} {codings}")
        if lengths:
            if not lengths[0].isdigit():
                raise NotCanonical(f"length: {lengths}")
            request.body = self.take(int(lengths[0]))
        elif codings:
            if codings != [b"chunked"]:
                raise NotCanonical(f"coding: {codings}")
            request.body, request.trailers = self.chunks()
        return request

    def chunks(self) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        body = b""
        while True:
            line = self.line()
            if SIZE.fullmatch(line) is None:
                raise NotCanonical(f"chunk size: {line!r}")
            if line == b"0":
                return body, self.section()
            body += self.take(int(line, 16))
            if self.take(2) != b"\r\n":
                raise NotCanonical("no line end behind a chunk")


def plain_answer(number: int, request: Request) -> bytes:
    """The default answer: tells the number of the request, in head and body."""
    body = b"" if request.method == b"HEAD" else b"request %d" % number
    return b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nContent-Length: %d\r\n\r\n%s" % (
        number,
        len(b"request %d" % number),
        body,
    )


class StrictOrigin:
    """Listens until `close`; `requests` are the whole ones it got, in the order of their ends."""

    def __init__(self, answer: Callable[[int, Request], bytes] = plain_answer) -> None:
        self._answer = answer
        self.requests: list[Request] = []
        self.faults: list[str] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self._listener.accept()[:1], daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, Ended):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = Reader(sock)
            while True:
                try:
                    request = reader.request()
                except NotCanonical as fault:
                    self.faults.append(str(fault))
                    return
                if reader.data:
                    self.faults.append(f"bytes behind a request: {reader.data!r}")
                with self._lock:
                    self.requests.append(request)
                    number = len(self.requests) - 1
                sock.sendall(self._answer(number, request))

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
