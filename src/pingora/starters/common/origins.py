"""Two origins to try the proxy with: python origins.py"""

import contextlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORTS = [int(port) for port in sys.argv[1:]] or [9001, 9002]


class Hello(BaseHTTPRequestHandler):
    """Says which origin answers, and to which request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        body = f"origin {self.server.server_address[1]}: {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the proxy has an access log."""


for port in PORTS:
    server = ThreadingHTTPServer(("127.0.0.1", port), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"origin on http://127.0.0.1:{port}", flush=True)
with contextlib.suppress(KeyboardInterrupt):
    threading.Event().wait()  # a program whose main thread has ended starts no thread for a connection in Python 3.12
