"""Serving.prepare, commit and drop: what is served changes, and no connection notices."""

import socket
import threading

import pytest
from conversations import proxy_to, wait_until
from inside import Gate
from load import Asking

from pingora import Limits, ProxyHttp, Response, Server
from pingora.usage import UsageError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HERE = "127.0.0.1:0"  # the address as RunningProxy gives it to its server


class Names(ProxyHttp):
    """Answers with its name; `closed` says whether it was let go."""

    def __init__(self, name, gate=None):
        self.name = name
        self.gate = gate
        self.closed = threading.Event()

    async def request_filter(self, session, ctx):
        if self.gate is not None and session.request.path == "/wait":
            await self.gate.wait()
        return Response(200, {"x-seen": session.request.headers.get("x-forwarded-for", "")}, self.name)

    def upstream_peer(self, session, ctx):
        raise AssertionError

    def close(self):
        self.closed.set()


class NamesAsync(Names):
    async def close(self):
        self.closed.set()


def make_server(*sites, **options):
    server = Server(**options)
    for proxy, listen in sites:
        server.add_proxy(proxy, listen)
    return server


async def change(running, *sites, **options):
    serving = running.serving
    serving.commit(await serving.prepare(make_server(*sites, **options)))


class Client:
    """A keep-alive connection."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 10)

    def get(self, request=GET):
        self.socket.sendall(request)
        return self.read()

    def read(self):
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(65536)
            assert more, f"the connection ended after {data!r}"
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < size:
            body += self.socket.recv(65536)
        return body.decode()


def test_an_open_connection_gets_the_new_plan(proxy_factory):
    old, new = Names("old"), Names("new")
    running = proxy_factory(old)
    client = Client(running.address)
    assert client.get() == "old"
    running.call(change(running, (new, HERE)))
    assert client.get() == "new"
    assert Client(running.address).get() == "new"
    assert old.closed.wait(5)
    assert running.serving.activity() == (3, 0)


@pytest.mark.parametrize("kind", [Names, NamesAsync])
def test_a_running_session_ends_on_the_old_plan_and_then_its_proxy_is_closed(proxy_factory, kind):
    gate = Gate()
    old, new = kind("old", gate), Names("new")
    running = proxy_factory(old)
    client = Client(running.address)
    client.socket.sendall(GET.replace(b"/", b"/wait", 1))
    gate.await_hook()
    running.call(change(running, (new, HERE)))
    assert Client(running.address).get() == "new"
    assert not old.closed.is_set()
    assert running.serving.activity()[1] == 1
    gate.open()
    assert client.read() == "old"
    assert old.closed.wait(5)
    assert client.get() == "new"


def test_a_proxy_that_stays_is_not_closed_until_its_last_plan_has_ended(proxy_factory):
    gate = Gate()
    old = Names("old", gate)
    running = proxy_factory(old)
    client = Client(running.address)
    client.socket.sendall(GET.replace(b"/", b"/wait", 1))
    gate.await_hook()
    running.call(change(running, (old, HERE), limits=Limits(fields=64)))
    running.call(change(running, (Names("new"), HERE)))
    assert Client(running.address).get() == "new"
    assert not old.closed.is_set()
    gate.open()
    assert client.read() == "old"
    assert old.closed.wait(5)


def test_a_close_that_raises_is_logged(proxy_factory, caplog):
    class Broken(Names):
        def close(self):
            self.closed.set()
            raise RuntimeError("not today")

    old = Broken("old")
    running = proxy_factory(old)
    running.call(change(running, (Names("new"), HERE)))
    wait_until(lambda: "Broken.close failed" in caplog.text)
    assert Client(running.address).get() == "new"


def test_addresses_come_and_go_and_open_connections_stay(proxy_factory):
    proxy = Names("one")
    running = proxy_factory(proxy)
    first = running.address
    client = Client(first)
    assert client.get() == "one"
    running.call(change(running, (proxy, [HERE, "127.0.0.2:0"])))
    assert running.serving.address == first
    second = running.serving.addresses[1]
    assert Client(second).get() == "one"
    running.call(change(running, (Names("two"), "127.0.0.2:0")))
    assert running.serving.addresses == [second]
    with pytest.raises(ConnectionRefusedError):
        Client(first)
    assert client.get() == "two", "the address is gone, its connections are not"
    assert Client(second).get() == "two"


def test_a_change_that_cannot_listen_changes_nothing(proxy_factory):
    running = proxy_factory(Names("old"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match="Address already in use"):
            running.call(change(running, (Names("new"), [HERE, "127.0.0.2:0", busy])))
    assert Client(running.address).get() == "old"
    assert len(running.serving.listeners) == 1


def test_a_dropped_change_closes_what_it_opened(proxy_factory):
    running = proxy_factory(Names("old"))
    opened = []

    async def prepare_and_drop():
        prepared = await running.serving.prepare(make_server((Names("new"), [HERE, "127.0.0.3:0"])))
        opened.extend(sock.getsockname() for site in prepared.server.sites for sock in site.sockets)
        running.serving.drop(prepared)

    running.call(prepare_and_drop())
    assert len(opened) == 2
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(opened[1], 10)
    assert Client(running.address).get() == "old"


def test_a_change_prepared_before_another_was_committed_is_refused(proxy_factory):
    running = proxy_factory(Names("old"))

    async def two():
        first = await running.serving.prepare(make_server((Names("first"), HERE)))
        second = await running.serving.prepare(make_server((Names("second"), HERE)))
        running.serving.commit(first)
        with pytest.raises(RuntimeError, match="does not run any more"):
            running.serving.commit(second)

    running.call(two())
    assert Client(running.address).get() == "first"


def test_nothing_changes_once_the_end_was_asked_for(proxy_factory):
    running = proxy_factory(Names("old"))

    async def stop_between():
        before = await running.serving.prepare(make_server((Names("before"), [HERE, "127.0.0.7:0"])))
        running.serving.stop_accepting()
        with pytest.raises(RuntimeError, match="does not run any more"):
            running.serving.commit(before)
        with pytest.raises(RuntimeError, match="is being stopped"):
            await running.serving.prepare(make_server((Names("after"), HERE)))

    running.call(stop_between())
    assert running.serving.listeners == {}
    with pytest.raises(ConnectionRefusedError):
        Client(running.address)


def test_trust_is_decided_anew_on_an_open_connection(proxy_factory):
    running = proxy_factory(Names("names"))
    client = Client(running.address)
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"
    for trusted, expected in (((), "127.0.0.1"), (["127.0.0.0/8"], "9.9.9.9, 127.0.0.1"), ((), "127.0.0.1")):
        origin = Recording()
        running.call(change(running, (proxy_to(origin.address), HERE), trusted=trusted))
        client.get(request)
        assert f"x-forwarded-for: {expected}\r\n".encode() in origin.head.lower()


class Recording:
    """An origin for one request."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.head = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        connection, _ = self._listener.accept()
        with connection, self._listener:
            self.head = connection.recv(65536)
            connection.sendall(OK)


class Persists(Names):
    """Counts the requests of a connection."""

    def on_connection_reuse(self, session, persisted, ctx):
        session.request.headers["x-count"] = str(persisted)

    async def request_filter(self, session, ctx):
        return Response(200, {}, f"{self.name} {session.request.headers.get('x-count')}")

    def persist_connection_context(self, session, ctx):
        return int(session.request.headers.get("x-count", "0")) + 1


def test_what_a_connection_persists_stays_with_its_proxy_object(proxy_factory):
    one = Persists("one")
    running = proxy_factory(one)
    client = Client(running.address)
    assert [client.get(), client.get()] == ["one None", "one 1"]
    running.call(change(running, (one, HERE), limits=Limits(fields=64)))
    assert client.get() == "one 2"
    running.call(change(running, (Persists("two"), HERE)))
    assert [client.get(), client.get()] == ["two None", "two 1"]


def test_connections_to_upstreams_outlive_the_plan(proxy_factory, origin_factory):
    origin = origin_factory(OK)
    running = proxy_factory(proxy_to(origin.address))
    client = Client(running.address)
    assert client.get() == "ok"
    running.call(change(running, (proxy_to(origin.address), HERE)))
    assert client.get() == "ok"
    assert origin.n_connections == 1


def test_new_limits_hold_for_open_connections(proxy_factory):
    proxy = Names("names")
    running = proxy_factory(proxy)
    client = Client(running.address)
    assert client.get() == "names"
    running.call(change(running, (proxy, HERE), limits=Limits(fields=1)))
    client.socket.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n")
    assert client.socket.recv(65536).startswith(b"HTTP/1.1 431 ")


def test_a_site_that_goes_ends_its_connections_after_an_answer_and_is_closed(proxy_factory):
    stays, goes = Names("stays"), Names("goes")
    running = proxy_factory(stays)
    running.call(change(running, (stays, HERE), (goes, "127.0.0.4:0")))
    client = Client(running.serving.addresses[1])
    assert client.get() == "goes"
    running.call(change(running, (stays, HERE)))
    assert not goes.closed.is_set()
    assert client.get() == "goes"
    assert client.socket.recv(1) == b""
    assert goes.closed.wait(10)
    assert len(running.serving.services) == 1


def test_an_address_moves_from_one_site_to_another(proxy_factory):
    first, second = Names("first"), Names("second")
    running = proxy_factory(first)
    running.call(change(running, (first, [HERE, "127.0.0.5:0"])))
    moving = running.serving.addresses[1]
    running.call(change(running, (first, HERE), (second, "127.0.0.5:0")))
    assert running.serving.addresses[1] == moving
    assert Client(moving).get() == "second"
    assert Client(running.address).get() == "first"


def test_no_request_fails_during_twenty_reloads(proxy_factory, origin_factory):
    origins = [origin_factory(OK), origin_factory(OK)]
    running = proxy_factory(proxy_to(origins[0].address))
    with Asking(lambda: Client(running.address), "ok", 8) as asking:
        for turn in range(20):
            site = (proxy_to(origins[turn % 2].address), [HERE, "127.0.0.6:0"] if turn % 3 else HERE)
            running.call(change(running, site, limits=Limits(fields=64 + turn)))
            asking.wait_for_all()
    assert asking.failures == []
    assert min(asking.counts) >= 20
    assert all(origin.heads for origin in origins)
