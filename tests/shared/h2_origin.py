"""Origins that speak HTTP/2: one by the library h2, one that is scripted frame by frame."""

import contextlib
import socket
import ssl
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import hpack
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame, SettingsFrame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Listening:
    """A listening socket, each of whose connections is served in a thread until the end of the test."""

    def __init__(self, context: ssl.SSLContext | None = None):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.context = context
        self.connections = []
        self.problems = []
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.socket.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.append(sock)
            threading.Thread(target=self._serve, args=(sock, len(self.connections) - 1), daemon=True).start()

    def _serve(self, sock, number):
        try:
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
            self.serve(sock, number)
        except (OSError, h2.exceptions.ProtocolError):
            pass  # the proxy went, as tests make it do
        except Exception as problem:
            self.problems.append(problem)
        finally:
            sock.close()

    def serve(self, sock, number):
        raise NotImplementedError

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # ends accept, which a close does not
        self.socket.close()
        for sock in self.connections:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        assert not self.problems, self.problems


class Request:
    """A request as the origin got it."""

    def __init__(self, headers):
        self.headers = headers
        self.body = b""
        self.trailers = []

    def get(self, name):
        return next((value for key, value in self.headers if key == name), None)


class H2Origin(Listening):
    """`answer(request)` gives the status, fields, body and trailers of each answer; by default it repeats the body.

    Each DATA frame has `padding` bytes more, if there are some, and their count.
    """

    def __init__(self, answer=None, context=None, settings=None, padding=0):
        self.answer = answer or (lambda request: (200, [], request.body, []))
        self.settings = settings or {}
        self.padding = {"pad_length": padding} if padding else {}
        self.least = padding + 1 if padding else 0
        self.requests = []
        super().__init__(context)

    def serve(self, sock, number):
        peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=False))
        peer.local_settings = h2.settings.Settings(
            client=False, initial_values={**peer.local_settings, **self.settings}
        )
        peer.initiate_connection()
        requests, waiting = {}, {}
        sock.sendall(peer.data_to_send())
        while data := sock.recv(65536):
            for event in peer.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    requests[event.stream_id] = Request(list(event.headers))
                elif isinstance(event, h2.events.DataReceived):
                    requests[event.stream_id].body += event.data
                    peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.TrailersReceived):
                    requests[event.stream_id].trailers = list(event.headers)
                elif isinstance(event, h2.events.StreamReset):
                    waiting.pop(event.stream_id, None)
                elif isinstance(event, h2.events.StreamEnded):
                    request = requests.pop(event.stream_id)
                    self.requests.append(request)
                    status, fields, body, trailers = self.answer(request)
                    ends = not body and not trailers
                    head = [(b":status", str(status).encode()), *fields]
                    peer.send_headers(event.stream_id, head, end_stream=ends)
                    if not ends:
                        waiting[event.stream_id] = [body, trailers]
            for stream in list(waiting):
                body, trailers = waiting[stream]
                while body and (room := min(peer.local_flow_control_window(stream), 16384) - self.least) > 0:
                    ends = len(body) <= room and not trailers
                    peer.send_data(stream, body[:room], end_stream=ends, **self.padding)
                    body = body[room:]
                waiting[stream][0] = body
                if not body:
                    del waiting[stream]
                    if trailers:
                        peer.send_headers(stream, trailers, end_stream=True)
            sock.sendall(peer.data_to_send())


class RawPeer:
    """The origin's end of one connection: frames in, frames out, nothing by itself."""

    def __init__(self, sock):
        self.sock = sock
        self.decoder = hpack.Decoder()
        self.decoder.max_allowed_table_size = 65536
        self.buffer = b""

    def read(self, size):
        while len(self.buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("the proxy closed the connection")
            self.buffer += data
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def preface(self):
        assert self.read(len(PREFACE)) == PREFACE

    def frame(self):
        """The next frame; fields of HEADERS are in `fields`."""
        head = self.read(9)
        frame, size = Frame.parse_frame_header(memoryview(head))
        frame.parse_body(memoryview(self.read(size)))
        if isinstance(frame, HeadersFrame):
            frame.fields = self.decoder.decode(frame.data, raw=True)
        return frame

    def next(self, kind):
        """The next frame of this kind; others are passed over."""
        while not isinstance(frame := self.frame(), kind):
            pass
        return frame

    def request(self):
        return self.next(HeadersFrame).stream_id

    def send(self, *frames):
        self.sock.sendall(b"".join(frame if isinstance(frame, bytes) else frame.serialize() for frame in frames))

    def start(self):
        """Meet the client, and get the id of its first stream."""
        self.preface()
        self.send(SettingsFrame(0), SettingsFrame(0, flags=["ACK"]))
        return self.request()

    def answer(self, stream, body=b"ok"):
        self.send(
            HeadersFrame(stream, data=b"\x88", flags=["END_HEADERS"]),
            DataFrame(stream, data=body, flags=["END_STREAM"]),
        )

    def rest(self):
        """Read until the proxy closes."""
        try:
            while True:
                self.frame()
        except (ConnectionError, OSError):
            return


class RawOrigin(Listening):
    """`script(peer, number)` is called for each connection, 0 for the first."""

    def __init__(self, script, context=None):
        self.script = script
        super().__init__(context)

    def serve(self, sock, number):
        self.script(RawPeer(sock), number)


class RequiringHttp1(RawOrigin):
    """Refuses a stream of HTTP/2 with HTTP_1_1_REQUIRED and answers HTTP/1.1; `chosen` has the protocol of each
    connection.
    """

    def __init__(self, context):
        self.chosen = []
        super().__init__(self._answer, context)

    def _answer(self, peer, number):
        self.chosen.append(peer.sock.selected_alpn_protocol())
        if self.chosen[-1] == "h2":
            peer.send(RstStreamFrame(peer.start(), error_code=13))
            peer.rest()
        else:
            peer.sock.recv(65536)
            peer.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup")
