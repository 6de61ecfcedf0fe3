"""A hook that misbehaves: its own request fails, others are served, and nothing is left (docs/faults.md)."""

import contextlib

import pytest
from apart import Apart
from conversations import wait_until
from recovery import assert_recovers

from pingora.testing import Origin, read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HOOKS = """
hook_timeouts = {"upstream_request_filter": 0.2}

def request_filter(self, session, ctx):
    path = session.request.path
    if path == "/raises":
        raise RuntimeError("meant")
    if path == "/wrong-type":
        return 5
    if path == "/forks":
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    if path == "/closes-its-client":
        os.close(Told.descriptor_of(session.client_address))
        return pingora.Response(200)
    if path == "/closes-all":
        os.closerange(3, 65536)

async def upstream_request_filter(self, session, request, ctx):
    if session.request.path == "/hangs":
        import asyncio
        await asyncio.Event().wait()

def response_filter(self, session, response, ctx):
    if session.request.path == "/raises-behind-the-origin":
        raise RuntimeError("meant")

def descriptor_of(client):
    import socket
    for name in os.listdir("/proc/self/fd"):
        if "socket:" in os.readlink(f"/proc/self/fd/{name}"):
            with socket.socket(fileno=os.dup(int(name))) as found:
                try:
                    if "%s:%d" % found.getpeername()[:2] == client:
                        return int(name)
                except (OSError, TypeError):
                    pass
"""
# path: (status, or None where the client sees only an end; times)
FAULTS = {
    "/raises": (500, 100),
    "/wrong-type": (500, 100),
    "/raises-behind-the-origin": (500, 100),
    "/hangs": (504, 1),
    "/forks": (200, 10),
    "/closes-its-client": (None, 20),
}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    origin = Origin(HELLO)
    directory = tmp_path_factory.mktemp("hooks")
    with contextlib.closing(Apart.quiet(directory, [origin.address], more=HOOKS)) as running:
        yield running
    origin.close()


@pytest.mark.parametrize("path", FAULTS)
def test_f22_a_hook_that_fails_fails_its_own_request_and_leaves_nothing(proxy, path):
    status, times = FAULTS[path]

    def happen():
        with proxy.connect() as other:
            ask_on(other)
            answer = proxy.ask(path)
            assert answer.startswith(b"HTTP/1.1 %d " % status) if status else not answer, answer[:200]
            ask_on(other)

    assert_recovers(proxy, happen, times)


def ask_on(client):
    client.sendall(b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.recv(65536).endswith(b"hello")


def test_f22_a_worker_whose_descriptors_a_hook_has_closed_is_replaced(tmp_path):
    origin = Origin(HELLO)
    with contextlib.closing(Apart.quiet(tmp_path, [origin.address], more=HOOKS)) as proxy:
        with proxy.connect() as client:
            client.sendall(b"GET /closes-all HTTP/1.1\r\nHost: a\r\n\r\n")
            assert not read_all(client)
        wait_until(lambda: is_another(proxy))
        assert proxy.ask("/good").endswith(b"hello")
        assert proxy.stop() == 0
    origin.close()


def is_another(proxy):
    with contextlib.suppress(OSError, ValueError):
        return int(proxy.ask("/pid").rpartition(b"\r\n")[2]) != proxy.worker
    return False
