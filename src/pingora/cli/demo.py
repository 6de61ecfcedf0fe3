"""The demonstration behind `make run`: two embedded origins and examples/gateway.py in front of them."""

import contextlib
import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click

from pingora import LoadBalancer, RoundRobin
from pingora.cli.check import fail
from pingora.cli.one_line import run_command
from pingora.loading import load_server
from pingora.usage import UsageError

GATEWAY = Path(__file__).parents[3] / "examples" / "gateway.py"
HINTS = """
The gateway listens on http://{gateway}, two origins behind it on ports {first} and {second}. Try:

  curl -i http://{gateway}/                          403 Forbidden, "no key"
  curl -i -H 'x-api-key: secret' http://{gateway}/   200 OK, "hello from {first}"; again: "hello from {second}"

The gateway is examples/gateway.py; change it and start again. It logs below. Ctrl-C ends.
"""


class Hello(BaseHTTPRequestHandler):
    """Answers every GET with the port it came to and the header that the gateway added."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        port = self.connection.getsockname()[1]
        body = f"hello from {port}, x-gateway: {self.headers.get('x-gateway')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the gateway logs."""


class Origin(ThreadingHTTPServer):
    """A threaded server that a broken connection does not make talk."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


def open_origin(port: int) -> Origin:
    """Listen on a port of 127.0.0.1. Raises UsageError."""
    try:
        return Origin(("127.0.0.1", port), Hello)
    except OSError as error:
        raise UsageError(
            f"the demonstration needs port {port} for an origin: {error.strerror}; choose others: "
            'make run ARGS="--origins 9101 9102"'
        ) from None


def start_origins(origins: list[Origin]) -> int:
    """Serve in a forked process, which ends with this one; return its process id.

    A process of its own: the gateway's workers are forks and want no threads beside them.
    """
    ours, its = socket.socketpair()
    pid = os.fork()
    if pid:
        its.close()
        LIFELINES.append(ours)
        return pid
    try:
        ours.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too, but the gateway ends first
        for origin in origins:
            threading.Thread(target=origin.serve_forever, daemon=True).start()
        its.recv(1)
    finally:
        os._exit(0)


LIFELINES: list[socket.socket] = []  # open as long as this process lives


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Of the gateway; 0: any.")
@click.option(
    "--origins",
    nargs=2,
    default=(9001, 9002),
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Ports of the two origins; 0: any.",
)
def demo(port: int, origins: tuple[int, int]) -> None:
    """Run two origins and the proxy of examples/gateway.py in front of them until Ctrl-C."""
    try:
        if not GATEWAY.is_file():
            raise UsageError("the demonstration runs from a checkout: there is no examples/gateway.py here")
        server = load_server(str(GATEWAY))
        site = server.sites[0]
        site.addresses = [f"127.0.0.1:{port}"]
        try:
            server.bind()
        except UsageError as error:
            raise UsageError(f'{error}: make run ARGS="--port 8081"') from None
        running = [open_origin(number) for number in origins]
    except UsageError as error:
        fail(str(error))
    first, second = (origin.server_port for origin in running)
    site.proxy.upstreams = LoadBalancer([f"127.0.0.1:{first}", f"127.0.0.1:{second}"], RoundRobin())
    pid = start_origins(running)
    for origin in running:
        origin.socket.close()
    host, number = site.sockets[0].getsockname()
    print(HINTS.format(gateway=f"{host}:{number}", first=first, second=second), flush=True)
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)  # what run() comes back to: a second Ctrl-C does not disturb the end
    try:
        server.run()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    run_command(demo, None, "make run, or python -m pingora.cli.demo")
