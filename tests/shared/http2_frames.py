"""A client of HTTP/2 that speaks in single frames, right and wrong ones, by hyperframe and hpack."""

import socket

from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CODES = {0: "NO_ERROR", 1: "PROTOCOL_ERROR", 2: "INTERNAL_ERROR", 3: "FLOW_CONTROL_ERROR", 5: "STREAM_CLOSED"}
CODES |= {6: "FRAME_SIZE_ERROR", 7: "REFUSED_STREAM", 8: "CANCEL", 9: "COMPRESSION_ERROR", 10: "CONNECT_ERROR"}
CODES |= {11: "ENHANCE_YOUR_CALM"}
GET = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
POST = [(":method", "POST"), *GET[1:]]


def replaced(fields, **pseudo):
    """Give `fields` with other pseudo fields: path="/x"; None leaves one out."""
    wanted = {f":{name}": value for name, value in pseudo.items()}
    changed = [(name, wanted.get(name, value)) for name, value in fields]
    return [(name, value) for name, value in changed if value is not None]


class FrameClient:
    """A connection to `proxy`, in plain or over a socket that was given; `settings` are announced.

    It answers SETTINGS and nothing else by itself. `opening` is sent in place of preface and SETTINGS.
    """

    def __init__(self, proxy=None, sock=None, settings=None, timeout=10, opening=None):
        self.sock = proxy.connect(timeout) if sock is None else sock
        self.sock.settimeout(timeout)
        if sock is None and self.sock.family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a frame waits for the last one's ACK
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.buffer = b""
        self.is_over = False
        self.send(opening or PREFACE + SettingsFrame(settings=settings or {}).serialize())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, *frames):
        """Send frames, or bytes, in one write; an end of the connection is seen when it is read."""
        parts = [frame if isinstance(frame, bytes) else frame.serialize() for frame in frames]
        try:
            self.sock.sendall(b"".join(parts))
        except OSError:
            self.is_over = True

    def head(self, fields, stream_id=1, end=True, **flags):
        """Make a HEADERS frame."""
        names = ["END_HEADERS"] + ["END_STREAM"] * end + [name for name, wanted in flags.items() if wanted]
        return HeadersFrame(stream_id, data=self.encoder.encode(fields), flags=names)

    def request(self, fields=GET, stream_id=1, body=None, trailers=None):
        """Send a request, with its body in one frame."""
        frames = [self.head(fields, stream_id, end=body is None and trailers is None)]
        if body is not None:
            frames.append(DataFrame(stream_id, data=body, flags=[] if trailers else ["END_STREAM"]))
        if trailers is not None:
            frames.append(self.head(trailers, stream_id))
        self.send(*frames)

    def frames(self):
        """Yield what comes, until the connection ends."""
        while True:
            while len(self.buffer) >= 9:
                frame, size = Frame.parse_frame_header(memoryview(self.buffer[:9]))
                if len(self.buffer) < 9 + size:
                    break
                frame.parse_body(memoryview(self.buffer[9 : 9 + size]))
                self.buffer = self.buffer[9 + size :]
                if isinstance(frame, HeadersFrame):
                    assert "END_HEADERS" in frame.flags
                    frame.fields = self.decoder.decode(frame.data)
                if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                    self.send(SettingsFrame(flags=["ACK"]))
                yield frame
            try:
                more = self.sock.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                self.is_over = True
                return
            self.buffer += more

    def until(self, wanted):
        """Read until `wanted(frame)`; that frame, None if the connection ended before."""
        return next((frame for frame in self.frames() if wanted(frame)), None)

    def answer(self, stream_id=1, gives_window=True):
        """Read the answer of a stream: {"status", "fields", "body", "trailers", "interim", "reset"}."""
        got = {"status": None, "fields": {}, "body": b"", "trailers": None, "interim": [], "reset": None}
        for frame in self.frames():
            if isinstance(frame, GoAwayFrame) and frame.error_code:
                got["goaway"] = CODES[frame.error_code]
            if frame.stream_id != stream_id:
                continue
            if isinstance(frame, HeadersFrame):
                fields = dict(frame.fields)
                if got["status"] is not None:
                    got["trailers"] = fields
                elif (status := int(fields.pop(":status"))) < 200:
                    got["interim"].append((status, fields))
                else:
                    got |= {"status": status, "fields": fields}
            elif isinstance(frame, DataFrame):
                got["body"] += frame.data
                if gives_window and frame.data:
                    more = [WindowUpdateFrame(place, window_increment=len(frame.data)) for place in (0, stream_id)]
                    self.send(*(more[:1] if "END_STREAM" in frame.flags else more))
            elif isinstance(frame, RstStreamFrame):
                got["reset"] = CODES[frame.error_code]
                return got
            if "END_STREAM" in frame.flags:
                return got
        return got | {"reset": "end of the connection"}

    def refusal(self):
        """Read until the connection or a stream is given up: the code's name, "closed" without one."""
        frame = self.until(lambda frame: isinstance(frame, (GoAwayFrame, RstStreamFrame)) and frame.error_code)
        return "closed" if frame is None else CODES[frame.error_code]

    def goaway(self):
        """Read until the connection is given up: the code's name, "closed" without one."""
        frame = self.until(lambda frame: isinstance(frame, GoAwayFrame) and frame.error_code)
        return "closed" if frame is None else CODES[frame.error_code]

    def is_alive(self):
        """Whether a PING is answered."""
        self.send(PingFrame(opaque_data=b"are you?"))
        return self.until(lambda frame: isinstance(frame, PingFrame) and "ACK" in frame.flags) is not None

    def is_closed(self):
        """Read to the end; True if there is one."""
        try:
            for _ in self.frames():
                pass
        except TimeoutError:
            return False
        return True


def continuation(data, stream_id=1, is_last=True):
    """Make a CONTINUATION frame."""
    return ContinuationFrame(stream_id, data=data, flags=["END_HEADERS"] if is_last else [])


def tls_client(proxy, ca, protocols=("h2",)):
    """Connect with TLS; the socket, whose ALPN outcome tells the protocol."""
    context = ca.trusts()
    context.set_alpn_protocols(list(protocols))
    return context.wrap_socket(socket.create_connection((proxy.host, proxy.port), 10), server_hostname="localhost")
