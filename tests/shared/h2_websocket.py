"""A client of WebSocket over HTTP/2, by the libraries h2 and wsproto."""

import h2.config
import h2.connection
import h2.events
import h2.settings
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.extensions import PerMessageDeflate


class H2WebSocket:
    """One WebSocket on a connection of its own; `status` and `fields` are the answer's."""

    def __init__(self, sock, path="/", compressed=False, extra=()):
        self.sock = sock
        self.sock.settimeout(20)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.sock.sendall(self.h2.data_to_send())
        self.data = b""
        self.reset = None
        self.has_ended = False
        self.status = None
        self.deflate = PerMessageDeflate() if compressed else None
        while not self.h2.remote_settings.enable_connect_protocol:
            self.read()
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path)]
        fields += [(":authority", "a.example"), ("sec-websocket-version", "13"), *extra]
        if compressed:
            fields.append(("sec-websocket-extensions", f"permessage-deflate; {self.deflate.offer()}"))
        self.stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(self.stream, fields)
        self.sock.sendall(self.h2.data_to_send())
        while self.status is None and self.reset is None:
            self.read()
        used = []
        if compressed and "sec-websocket-extensions" in self.fields:
            self.deflate.finalize(self.fields["sec-websocket-extensions"])
            used = [self.deflate]
        self.frames = Connection(ConnectionType.CLIENT, used)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def read(self):
        """Take what one read brings."""
        data = self.sock.recv(65536)
        assert data, "the connection has ended"
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.fields = dict(event.headers)
                self.status = int(self.fields.pop(":status"))
            elif isinstance(event, h2.events.DataReceived):
                self.data += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.has_ended = True
            elif isinstance(event, h2.events.StreamReset):
                self.reset = int(event.error_code)
        self.sock.sendall(self.h2.data_to_send())

    def write(self, data, end=False):
        """Write bytes of the tunnel, as the windows allow."""
        while data:
            room = min(self.h2.local_flow_control_window(self.stream), self.h2.max_outbound_frame_size)
            if not room:
                self.read()
                continue
            self.h2.send_data(self.stream, data[:room])
            data = data[room:]
            self.sock.sendall(self.h2.data_to_send())
        if end:
            self.h2.end_stream(self.stream)
            self.sock.sendall(self.h2.data_to_send())

    def send(self, message):
        event = TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)
        self.write(self.frames.send(event))

    def receive(self):
        """The next message; (code, reason) of a Close frame."""
        parts = []
        while True:
            for event in self.frames.events():
                if isinstance(event, CloseConnection):
                    return event.code, event.reason
                parts.append(event.data)
                if event.message_finished:
                    return parts[0][:0].join(parts)
            while not self.data:
                self.read()
            taken, self.data = self.data, b""
            self.frames.receive_data(taken)

    def close(self, code, reason):
        """Begin the close, and see the stream's end; the (code, reason) that comes back."""
        self.write(self.frames.send(CloseConnection(code=code, reason=reason)))
        answer = self.receive()
        self.write(b"", end=True)
        while not self.has_ended and self.reset is None:
            self.read()
        return answer
