"""What h11 as a server makes of the bytes that a client sent before it ended its side."""

from dataclasses import dataclass, field

import h11

MAX_EVENT = 1 << 20  # far above what a test sends: limits are not what is compared


@dataclass
class Request:
    """A whole request; names as they came, values without the white space around them."""

    method: bytes
    target: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all fields of a lower-case name."""
        return [value for key, value in self.fields if key.lower() == name]


@dataclass
class Verdict:
    """The whole requests of a stream, and how it ended.

    `end`: "done" (nothing is left and more could come), "more" (a message has begun), "closed" (this connection
    carries no more requests, what follows is not read) or "refused". `starts[i]` is where message `i` begins.
    """

    requests: list[Request] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    end: str = "done"
    error: str = ""


def judge(stream: bytes) -> Verdict:
    """Read `stream`, answer each request with 200, but CONNECT with 405: no tunnel begins."""
    verdict = Verdict(starts=[0])
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_EVENT)
    if stream:
        connection.receive_data(stream)
    try:
        while read_request(connection, verdict):
            respond(connection, 405 if verdict.requests[-1].method == b"CONNECT" else 200)
            verdict.starts.append(len(stream) - len(connection.trailing_data[0]))
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                verdict.end = "closed"
                return verdict
            connection.start_next_cycle()
    except h11.RemoteProtocolError as error:
        verdict.end, verdict.error = "refused", str(error)
        return verdict
    verdict.end = "more" if connection.trailing_data[0] or connection.their_state is not h11.IDLE else "done"
    return verdict


def read_request(connection: h11.Connection, verdict: Verdict) -> bool:
    """Add the next whole request; False where the bytes end before."""
    request = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            return False
        if isinstance(event, h11.Request):
            names = event.headers.raw_items()
            request = Request(event.method, event.target, event.http_version, [(n, bytes(v)) for n, v in names])
        elif isinstance(event, h11.Data):
            request.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            request.trailers = [(n, bytes(v)) for n, v in event.headers.raw_items()]
            verdict.requests.append(request)
            return True


def respond(connection: h11.Connection, status: int) -> None:
    """Answer without a body."""
    connection.send(h11.Response(status_code=status, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
