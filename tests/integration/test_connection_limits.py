"""How many connections a worker and a client may have, and what happens when there are no descriptors left."""

import asyncio
import contextlib
import json
import logging
import resource
import socket
import subprocess
import sys

import pytest
from conversations import GET, wait_until

from pingora import Limits, LoadBalancer, ProxyHttp, Response, serve
from pingora.testing import read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
KEEP = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PAUSES = 'pingora_accept_pauses_total{reason="%s"}'
REFUSED = 'pingora_connections_refused_total{reason="client_connections"}'


class Answers(ProxyHttp):
    upstreams = LoadBalancer(["127.0.0.1:1"])

    def request_filter(self, session, ctx):
        return Response(200, body=b"hello")


def read_answer(client):
    got = b""
    while not got.endswith(b"hello"):
        more = client.recv(65536)
        assert more, got
        got += more
    return got


def test_beyond_the_limit_of_connections_accepting_pauses_until_one_ends(proxy_factory, caplog):
    caplog.set_level(logging.WARNING)
    proxy = proxy_factory(Answers(), Limits(connections=2))
    with contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(proxy.connect(30)) for _ in range(3))
        for client in (first, second, third):
            client.sendall(KEEP)
        read_answer(first)
        read_answer(second)
        wait_until(lambda: proxy.serving.counters[PAUSES % "connections"] >= 2)
        assert proxy.serving.counters["pingora_connections_open"] == 2
        second.sendall(KEEP)
        read_answer(second)  # those that are open go on
        first.close()
        read_answer(third)
    proxy.close()
    assert "accepting pauses: Limits.connections are open" in caplog.text


def test_a_client_beyond_its_limit_of_connections_is_closed_and_another_is_served(proxy_factory, caplog):
    caplog.set_level(logging.WARNING)
    proxy = proxy_factory(Answers(), Limits(client_connections=2))

    def connect(source):
        return socket.create_connection((proxy.host, proxy.port), 30, (source, 0))

    with connect("127.0.0.1") as first, connect("127.0.0.1") as second:
        for client in (first, second):
            client.sendall(KEEP)
            read_answer(client)
        for _ in range(3):
            with connect("127.0.0.1") as third:
                third.sendall(KEEP)
                answer = read_all(third)
                assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                head, _, body = answer.partition(b"\r\n\r\n")
                assert b"Content-Length: %d\r\nConnection: close" % len(body) in head
                assert body == b"503 client_connections\n"
        with connect("127.0.0.2") as other:
            other.sendall(GET)
            assert read_all(other).endswith(b"hello")
        first.sendall(KEEP)
        read_answer(first)
        second.sendall(GET)
        assert read_all(second).endswith(b"hello")
        wait_until(lambda: proxy.serving.counters["pingora_connections_open"] == 1)
        with connect("127.0.0.1") as again:
            again.sendall(KEEP)
            read_answer(again)
    assert proxy.serving.counters[REFUSED] == 3
    assert proxy.serving.counters["pingora_connections_accepted_total"] == 4
    proxy.close()
    assert "connections refused: 3 beyond Limits.client_connections, the last of 127.0.0.1" in caplog.text


def test_a_trusted_proxy_in_front_may_have_any_number_of_connections():
    async def main():
        async with serve(Answers(), limits=Limits(client_connections=1), trusted=["127.0.0.0/8"]) as serving:
            host, _, port = serving.address.rpartition(":")
            pairs = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
            for reader, writer in pairs:
                writer.write(GET)
                assert (await reader.read()).endswith(b"hello")
                writer.close()

    asyncio.run(main())


@pytest.mark.parametrize("address", ["[::1]:0", "unix:{}/p.sock"], ids=["IPv6", "Unix socket"])
def test_an_ipv6_client_is_limited_by_its_network_and_a_unix_socket_is_not(tmp_path, address):
    async def main():
        listen = address.format(tmp_path)
        async with serve(Answers(), listen, limits=Limits(client_connections=1)) as serving:
            ends = []
            for _ in range(2):
                if listen.startswith("unix:"):
                    reader, writer = await asyncio.open_unix_connection(listen.removeprefix("unix:"))
                else:
                    reader, writer = await asyncio.open_connection("::1", int(serving.address.rpartition(":")[2]))
                with contextlib.suppress(ConnectionError):
                    writer.write(KEEP)
                    ends.append((await reader.read(65536)).endswith(b"hello"))
            assert ends == [True, listen.startswith("unix:")]
            assert serving.counters[REFUSED] == (0 if listen.startswith("unix:") else 1)

    asyncio.run(main())


# Serves with few descriptors; each line on standard input is a command, answered with a line of JSON.
PROGRAM = """
import asyncio, json, os, resource, sys
import uvloop

resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

from pingora import LoadBalancer, ProxyHttp, serve

class Proxy(ProxyHttp):
    upstreams = LoadBalancer(sys.argv[2:])

eaten = []

def eat():
    try:
        while True:
            eaten.append(os.dup(0))
    except OSError:
        pass

def free():
    while eaten:
        os.close(eaten.pop())

async def main():
    async with serve(Proxy()) as serving:
        ended = asyncio.Event()

        def obey():
            command = sys.stdin.readline().strip()
            if command == "eat":
                eat()
            elif command == "free":
                free()
            elif not command:
                asyncio.get_running_loop().remove_reader(0)
                ended.set()
                return
            print(json.dumps(serving.counters | {"ticks": serving.reactor.n_ticks}), flush=True)

        asyncio.get_running_loop().add_reader(0, obey)
        print(json.dumps(serving.address), flush=True)
        await ended.wait()

uvloop.run(main())
"""


class Scarce:
    """A proxy in a process that may have `descriptors` of them."""

    def __init__(self, descriptors, *origins):
        command = [sys.executable, "-c", PROGRAM, str(descriptors), *origins]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        host, _, port = self._read().rpartition(":")
        self.place = host, int(port)

    def _read(self):
        return json.loads(self.process.stdout.readline())

    def tell(self, command="count"):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._read()

    def connect(self):
        return socket.create_connection(self.place, 30)

    def close(self):
        """End it and return what it logged; may be called twice."""
        if self.process.stdin.closed:
            return ""
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
        errors = self.process.stderr.read()
        self.process.stderr.close()
        return errors


@pytest.fixture
def scarce(origin_factory):
    with contextlib.ExitStack() as stack:
        yield lambda n, script=HELLO: stack.enter_context(contextlib.closing(Scarce(n, origin_factory(script).address)))


def test_without_descriptors_accepting_pauses_without_a_busy_loop_and_goes_on_when_there_are_some(scarce):
    proxy = scarce(128)
    with proxy.connect() as old:
        old.sendall(KEEP)
        read_answer(old)
        before = proxy.tell("eat")
        with contextlib.ExitStack() as stack:
            waiting = [stack.enter_context(proxy.connect()) for _ in range(5)]
            for client in waiting:
                client.sendall(GET)
            wait_until(lambda: proxy.tell()[PAUSES % "descriptors"] >= 4)
            during = proxy.tell()
            assert during["pingora_connections_open"] == before["pingora_connections_open"]
            assert during["ticks"] - before["ticks"] <= 4 * during[PAUSES % "descriptors"] + 20
            old.sendall(KEEP)
            read_answer(old)  # those that are open are unharmed: their connection to the origin is open, too
            freed = proxy.tell("free")
            for client in waiting:
                assert read_all(client).endswith(b"hello")
            assert proxy.tell()[PAUSES % "descriptors"] == freed[PAUSES % "descriptors"], "the next look found them"
    assert "accepting pauses: the process is short of descriptors" in proxy.close()


def test_without_a_descriptor_for_its_upstream_a_request_is_answered_503(scarce):
    proxy = scarce(128, HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    with proxy.connect() as client:
        client.sendall(KEEP)
        read_answer(client)
        proxy.tell("eat")
        client.sendall(KEEP)
        assert client.recv(65536).startswith(b"HTTP/1.1 503 ")
        seen = proxy.tell("free")
        assert seen['pingora_failures_total{reason="no_descriptors"}'] == 1
        client.sendall(KEEP)
        read_answer(client)


def test_more_clients_than_descriptors_are_all_served_in_turn_and_each_that_is_accepted_has_an_upstream(scarce):
    proxy = scarce(64)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(100)]
        for client in clients:
            client.sendall(GET)
        for client in clients:
            assert read_all(client).endswith(b"hello")
    seen = proxy.tell()
    assert seen['pingora_responses_total{class="2xx"}'] == 100
    assert seen['pingora_responses_total{class="5xx"}'] == 0


def test_idle_clients_leave_descriptors_for_those_that_are_served(scarce):
    proxy = scarce(64)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(60)]
        wait_until(lambda: proxy.tell()[PAUSES % "descriptors"] >= 1)
        n_open = proxy.tell()["pingora_connections_open"]
        assert 10 <= n_open <= 32
        for client in clients[:n_open]:
            client.sendall(KEEP)
        for client in clients[:n_open]:
            read_answer(client)


def test_a_worker_takes_all_descriptors_that_the_system_allows(tmp_path):
    program = """
import os, pingora, resource, sys
class Proxy(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer(["127.0.0.1:1"])
    def request_filter(self, session, ctx):
        return pingora.Response(200, body=str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[2])))
server = pingora.Server()
server.add_proxy(Proxy(), "unix:" + sys.argv[1])
server.run(workers=0)
"""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    path = tmp_path / "p.sock"
    with subprocess.Popen([sys.executable, "-c", program, str(path), str(hard)]) as process:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                wait_until(lambda: client.connect_ex(str(path)) == 0)  # the file is there before it is listened on
                client.sendall(GET)
                assert read_all(client).endswith(b"\r\n\r\n%d" % hard)
        finally:
            process.terminate()
