"""Certificates that are replaced by reloads while clients connect: no handshake fails.

PINGORA_LONG=1 replaces them once a second for a minute, otherwise it happens a few times.
"""

import os
import socket
import threading
import time

from configured import Running, write
from conversations import GET, wait_until
from pki import Authority

IS_LONG = bool(os.environ.get("PINGORA_LONG"))
CLIENTS = 4


class Clients:
    """Connections with a handshake each, one after the other in several threads."""

    def __init__(self, context, path):
        self.context, self.path = context, path
        self.problems, self.serials = [], set()
        self.n_done = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        while not self._stop.is_set():
            try:
                self._ask()
            except Exception as error:
                self.problems.append(error)

    def _ask(self):
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(20)
            plain.connect(str(self.path))
            with self.context.wrap_socket(plain, server_hostname="localhost") as client:
                client.sendall(GET)
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
                self.serials.add(client.getpeercert()["serialNumber"])
        self.n_done += 1


def test_no_handshake_fails_while_reloads_replace_the_certificate(tmp_path, origin_factory):
    ca = Authority()
    origin = origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    def install():
        issued = ca.issue("localhost")
        both = tmp_path / "new.pem"
        both.write_bytes(issued.chain + issued.key)
        both.rename(tmp_path / "server.pem")

    install()
    file = write(
        tmp_path,
        'listeners = [{ address = "unix:DIR/a", tls = { certificates = [{ chain = "DIR/server.pem" }] } }]',
        f'upstreams.endpoints = ["{origin.address}"]',
        "workers = 2",
        'logs.access = "off"',
    )
    running = Running(file)
    try:
        wait_until(lambda: (tmp_path / "a").exists())
        with Clients(ca.trusts(), tmp_path / "a") as clients:
            wait_until(lambda: clients.n_done > 10 or clients.problems)
            for _ in range(60 if IS_LONG else 5):
                before, seen = clients.n_done, len(clients.serials)
                install()
                running.reload()
                running.expect("has taken over in place")
                wait_until(lambda: (clients.n_done > before + 10 and len(clients.serials) > seen) or clients.problems)  # noqa: B023
                if IS_LONG:
                    time.sleep(1)
        assert not clients.problems
        running.stop()
    finally:
        running.process.kill()
        running.process.wait()
