"""A worker that may have little memory, and more transfers at once than it has buffers for (docs/faults.md, F19).

PINGORA_LONG=1 makes it 1,000 uploads and 1,000 downloads of 10 MiB below 256 MiB, which takes a minute.
"""

import contextlib
import os
import random
import resource
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from apart import Apart, descriptors

from pingora.testing import Origin

IS_LONG = bool(os.environ.get("PINGORA_LONG"))
N_CLIENTS = 1000 if IS_LONG else 60
CEILING = (256 if IS_LONG else 128) << 20  # of address space: what is beyond it is not given
ACCOUNT = (64 if IS_LONG else 2) << 20
PAGE = random.Random(19).randbytes((10 if IS_LONG else 2) << 20)
HINT = b"HTTP/1.1 103 Early Hints\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
PATIENCE_S = 600  # for all of a transfer beside the others
SMALL, LARGE = 1 << 14, 1 << 20  # of what the kernel keeps of a connection, while all begin and afterwards

pytestmark = pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="a sanitizer takes all addresses")


def resize(connection, size):
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, size)


def keep_little(connection):
    """Let the kernel keep little of what is yet to be connected, on the other end too, which goes by the segments."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")  # bbr takes a wait for a slow line
    resize(connection, SMALL)


def takes_page(connection, at):
    """Read until it is whole; False if it is another one."""
    while at < len(PAGE):
        part = connection.recv(LARGE)
        if not part or part != PAGE[at : at + len(part)]:
            return False
        at += len(part)
    return True


class Slow:
    """An origin that says when a request has come, and takes none of its body until all may go on."""

    def __init__(self):
        self.may_go_on = threading.Event()
        self.origin = Origin(self._answer)
        keep_little(self.origin._listener)

    def _answer(self, connection, received):
        head, _, body = received.partition(b"\r\n\r\n")
        connection.settimeout(None)
        connection.sendall(HINT)
        if head.startswith(b"GET "):
            connection.sendall(OK % len(PAGE))
            connection.sendall(PAGE)
            return
        self.may_go_on.wait()
        resize(connection, LARGE)
        is_right = PAGE.startswith(body) and takes_page(connection, len(body))
        connection.sendall(OK % 5 + (b"right" if is_right else b"wrong"))


class Client:
    """One that uploads or downloads the page, and begins anew until it succeeds. `ends` counts how its tries ended."""

    def __init__(self, proxy, slow, all_began, ends):
        self.proxy, self.slow, self.all_began, self.ends = proxy, slow, all_began, ends
        self.has_waited = False

    def transfer(self, is_upload):
        while True:
            with socket.socket() as self.socket:
                how = "cut"
                with contextlib.suppress(ConnectionError):
                    how = self.attempt(is_upload)
                self.wait_for_others()
                self.ends[how] += 1
                if how == "done":
                    return
                time.sleep(0.05)  # as clients do that were told to come later

    def attempt(self, is_upload):
        self.socket.settimeout(PATIENCE_S)
        keep_little(self.socket)
        self.socket.connect((self.proxy.host, self.proxy.port))
        length = b"Content-Length: %d\r\n" % len(PAGE) if is_upload else b""
        self.socket.sendall(b"%s /page HTTP/1.1\r\nHost: a\r\n%s\r\n" % (b"PUT" if is_upload else b"GET", length))
        head, rest = self.read_head(b"")
        if not head.startswith(b"HTTP/1.1 103 "):
            return head[9:12].decode() or "cut"
        at = self.fill() if is_upload and not self.has_waited else 0
        self.wait_for_others()
        resize(self.socket, LARGE)
        if is_upload:
            self.socket.sendall(memoryview(PAGE)[at:])
        head, rest = self.read_head(rest)
        if not head.startswith(b"HTTP/1.1 200 "):
            return head[9:12].decode() or "cut"
        return self.read_answer(rest, b"right" if is_upload else PAGE)

    def wait_for_others(self):
        """Until all have begun, or were refused."""
        if not self.has_waited:
            self.has_waited = True
            self.all_began.wait(PATIENCE_S)
            self.slow.may_go_on.set()

    def fill(self):
        """Send until for a moment nothing is taken; how much was."""
        at = 0
        self.socket.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while at < len(PAGE):
                at += self.socket.send(PAGE[at : at + SMALL])
        self.socket.settimeout(PATIENCE_S)
        return at

    def read_head(self, got):
        while b"\r\n\r\n" not in got:
            more = self.socket.recv(1 << 12)
            if not more:
                return b"", b""
            got += more
        head, _, rest = got.partition(b"\r\n\r\n")
        return head, rest

    def read_answer(self, got, expected):
        at = 0
        while got:
            assert got == expected[at : at + len(got)], "bytes of something else"
            at += len(got)
            if at == len(expected):
                return "done"
            got = self.socket.recv(LARGE)
        return "cut"


@pytest.mark.parametrize("is_upload", [True, False], ids=["uploads", "downloads"])
def test_f19_transfers_beyond_the_buffers_are_refused_and_none_is_wrong(tmp_path, is_upload):
    slow = Slow()
    all_began = threading.Barrier(N_CLIENTS)
    ends = Counter()
    limits = f"buffered_bytes={ACCOUNT}, write_timeout=600, body_timeout=600"

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (CEILING, CEILING))

    with (
        descriptors(4 * N_CLIENTS + 500) as is_permitted,
        (tmp_path / "errors").open("wb") as errors,
        ThreadPoolExecutor(N_CLIENTS) as clients,
    ):
        if not is_permitted:
            pytest.skip("the hard limit of descriptors is too low")
        proxy = Apart(tmp_path, [slow.origin.address], limits, stderr=errors, preexec_fn=limit)
        with contextlib.closing(proxy):
            transfers = [Client(proxy, slow, all_began, ends).transfer for _ in range(N_CLIENTS)]
            list(clients.map(lambda transfer: transfer(is_upload), transfers))
            peak = proxy.peak_bytes()
            assert int(proxy.ask("/pid").rpartition(b"\r\n")[2]) == proxy.worker, "it lives"
    slow.origin.close()
    print(f"{ends}, {peak >> 20} MiB at most")
    assert ends["done"] == N_CLIENTS
    assert len(ends) > 1, "there was room for all: nothing was tried"
    assert set(ends) <= {"done", "503", "cut"}
    assert peak < CEILING
