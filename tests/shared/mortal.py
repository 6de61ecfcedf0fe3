"""An origin that dies and returns on the same port."""

import contextlib
import socketserver
import threading

from free_ports import free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Mortal:
    """An origin on one port that can die, and return on the same port."""

    def __init__(self, answer=OK):
        self.answer = answer
        self.heads = []
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.server = None

    def live(self):
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                data = b""
                with contextlib.suppress(OSError):
                    while b"\r\n\r\n" not in data:
                        more = self.request.recv(65536)
                        if not more:
                            return
                        data += more
                    outer.heads.append(data)
                    self.request.sendall(outer.answer)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def die(self):
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
