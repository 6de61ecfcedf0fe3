"""The demonstration behind `make run`: two embedded origins and examples/gateway.py in front of them."""

import contextlib
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORTS = (9001, 9002)
HINTS = """
The gateway listens on http://127.0.0.1:8080, two origins behind it on ports 9001 and 9002. Try:

  curl -i http://127.0.0.1:8080/                          403: "no key"
  curl -i -H 'x-api-key: secret' http://127.0.0.1:8080/   200: "hello from 9001", again: "hello from 9002"

The gateway is examples/gateway.py; change it and start again. Ctrl-C ends.
"""


class Hello(BaseHTTPRequestHandler):
    """Answers every GET with the port it came to and the header that the gateway added."""

    protocol_version = "HTTP/1.1"

    server: ThreadingHTTPServer

    def do_GET(self) -> None:
        """Answer."""
        port = self.server.server_port
        body = f"hello from {port}, x-gateway: {self.headers.get('x-gateway')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the gateway logs."""


def main() -> int:
    """Run until Ctrl-C; return the exit code."""
    gateway = Path(__file__).parents[3] / "examples" / "gateway.py"
    origins = []
    for port in PORTS:
        try:
            origins.append(ThreadingHTTPServer(("127.0.0.1", port), Hello))
        except OSError as error:
            print(f"pingora: the demonstration needs port {port}: {error.strerror}", file=sys.stderr)
            return 2
    for origin in origins:
        threading.Thread(target=origin.serve_forever, daemon=True).start()
    print(HINTS, flush=True)
    process = subprocess.Popen([sys.executable, "-m", "pingora", "run", str(gateway)])
    signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    with contextlib.suppress(KeyboardInterrupt):
        return process.wait()
    process.send_signal(signal.SIGINT)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
