"""TcpProxy: bytes passed both ways, hooks, names without decrypting, ends and failures of either side."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import random
import socket
import subprocess
import sys
import threading
from typing import get_args

import pytest
from conversations import wait_until
from pki import Authority
from tcp_peers import (
    counted,
    echo,
    failures,
    is_over,
    refusing_address,
    talk,
    to,
    told,
    unsent,
)

from pingora import (
    Certificate,
    HttpPeer,
    Limits,
    LoadBalancer,
    NoUpstream,
    ProxyError,
    RetryPolicy,
    TcpProxy,
    TcpSession,
    TlsSettings,
)
from pingora.loading import load
from pingora.program import Program
from pingora.testing import read_all
from pingora.usage import UsageError
from pingora_c.prelude.proxy_header import parse

HERE = ["127.0.0.0/8"]
LINE = b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n"


# -- bytes both ways


def test_bytes_go_both_ways_and_each_side_ends_on_its_own(proxy_factory, peer_factory):
    proxy = proxy_factory(to(peer_factory(told(b"origin")).address))
    assert talk(proxy, b"hello") == b"origin:hello"
    assert counted(proxy, "pingora_tcp_sessions_total") == 1
    assert counted(proxy, 'pingora_tcp_bytes_total{direction="received"}') == 5
    assert counted(proxy, 'pingora_tcp_bytes_total{direction="sent"}') == 12
    is_over(proxy)


def test_at_its_end_worker_stop_runs_and_nothing_is_served_any_more(proxy_factory, peer_factory):
    ends = []

    class Ends(TcpProxy):
        async def worker_stop(self):
            ends.append("worker_stop")

    hooks = Ends()
    hooks.upstreams = LoadBalancer([peer_factory(echo).address])
    proxy = proxy_factory(hooks)
    with proxy.connect(10) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        proxy.close()
        assert read_all(client) == b""
    assert ends == ["worker_stop"]


def test_a_server_may_speak_first_and_end_first(proxy_factory, peer_factory):
    got = []

    def script(connection):
        connection.sendall(b"220 ready\r\n")
        connection.shutdown(socket.SHUT_WR)
        got.append(read_all(connection))

    proxy = proxy_factory(to(peer_factory(script).address))
    with proxy.connect(10) as client:
        assert read_all(client) == b"220 ready\r\n"
        client.sendall(b"still listening?")
        client.shutdown(socket.SHUT_WR)
        wait_until(lambda: got)
    assert got == [b"still listening?"]
    is_over(proxy)


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_megabytes_go_through_unchanged_at_the_pace_of_the_slower_side(proxy_factory, peer_factory, is_tls):
    ca = Authority()
    issued = ca.issue("localhost")
    data = random.Random(1).randbytes(8 << 20)
    tls = TlsSettings(Certificate(issued.chain, issued.key), alpn=()) if is_tls else None
    proxy = proxy_factory(to(peer_factory(echo).address), Limits(buffered_bytes=4 << 20), tls)
    how = {"ssl": ca.trusts(), "server_hostname": "localhost"} if is_tls else {}

    async def exchanged():
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port, **how)
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.readexactly(len(data)), 30)
        finally:
            writer.transport.abort()

    assert hashlib.sha256(asyncio.run(exchanged())).digest() == hashlib.sha256(data).digest()
    is_over(proxy)


def test_what_a_server_sent_before_it_closed_arrives_although_it_takes_nothing_more(proxy_factory, peer_factory):
    has_closed = threading.Event()

    def script(connection):
        connection.recv(1)
        connection.sendall(b"x" * 60000)
        wait_until(lambda: not unsent(connection))  # its kernel drops the rest when it answers "b" with a reset
        connection.close()
        has_closed.set()

    proxy = proxy_factory(to(peer_factory(script).address))
    with proxy.connect(10) as client:
        client.sendall(b"a")
        assert len(client.recv(1)) == 1
        assert has_closed.wait(10)
        with contextlib.suppress(OSError):
            client.sendall(b"b")
        assert len(read_all(client)) == 59999
    is_over(proxy)


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_a_reset_of_one_side_is_one_of_the_other(proxy_factory, peer_factory, who):
    seen = []
    begun = threading.Event()

    def script(connection):
        connection.recv(5)
        begun.set()
        if who == "upstream":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return
        try:
            seen.append(connection.recv(5))
        except ConnectionResetError:
            seen.append("reset")

    proxy = proxy_factory(to(peer_factory(script).address))
    client = proxy.connect(10)
    client.sendall(b"hello")
    begun.wait(10)
    if who == "client":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        wait_until(lambda: seen)
        assert seen == ["reset"]
    else:
        with client, pytest.raises(ConnectionResetError):
            client.recv(1)
    wait_until(lambda: failures(proxy, "client_gone" if who == "client" else "upstream_closed") == 1)
    is_over(proxy)


# -- hooks


class Noting(TcpProxy):
    def __init__(self, address):
        self.peer = HttpPeer(address)
        self.ended = []

    def connection_filter(self, session):
        session.ctx = {"client": session.client_address}

    async def upstream_peer(self, session):
        await asyncio.sleep(0)
        return self.peer

    async def logging(self, session, error):
        await asyncio.sleep(0)
        self.ended.append(
            (
                session.ctx["client"],
                error and error.reason,
                session.bytes_received,
                session.bytes_sent,
                session.attempts,
            )
        )


def test_hooks_see_the_session_from_its_begin_to_its_end(proxy_factory, peer_factory):
    hooks = Noting(peer_factory(told(b"origin")).address)
    proxy = proxy_factory(hooks)
    with proxy.connect() as client:
        port = client.getsockname()[1]
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"origin:hello"
    wait_until(lambda: hooks.ended)
    assert hooks.ended == [(f"127.0.0.1:{port}", None, 5, 12, 1)]


def test_a_class_that_names_the_type_of_ctx_serves(proxy_factory, peer_factory):
    class Counted(TcpProxy[list[str]]):
        def __init__(self, address: str) -> None:
            self.peer = HttpPeer(address)
            self.ended: list[list[str]] = []

        def connection_filter(self, session: TcpSession[list[str]]) -> None:
            session.ctx = ["filter"]

        def upstream_peer(self, session: TcpSession[list[str]]) -> HttpPeer:
            session.ctx.append("peer")
            return self.peer

        def logging(self, session: TcpSession[list[str]], error: ProxyError | None) -> None:
            self.ended.append(session.ctx)

    hooks = Counted(peer_factory(told(b"origin")).address)
    assert talk(proxy_factory(hooks), b"hello") == b"origin:hello"
    wait_until(lambda: hooks.ended == [["filter", "peer"]])
    assert get_args(TcpSession[list[str]]) == (list[str],)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("farewell", [b"", b"554 not you\r\n"])
def test_a_filter_may_end_a_connection_and_say_why(proxy_factory, peer_factory, is_async, farewell):
    class Refusing(TcpProxy):
        upstreams = LoadBalancer([peer_factory(echo).address])

        def connection_filter(self, session):
            return self.later() if is_async else farewell

        async def later(self):
            await asyncio.sleep(0)
            return farewell

    proxy = proxy_factory(Refusing())
    with proxy.connect(10) as client:
        client.sendall(b"x" * 1000)
        assert read_all(client) == farewell
    is_over(proxy)
    assert counted(proxy, "pingora_upstream_attempts_total") == 0


@pytest.mark.parametrize("hook", ["connection_filter", "upstream_peer", "logging"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_hook_that_raises_ends_its_connection_only(proxy_factory, peer_factory, caplog, hook, is_async):
    address = peer_factory(echo).address

    def fails(self, session, *rest):
        async def later():
            await asyncio.sleep(0)
            raise KeyError("missing")

        if is_async:
            return later()
        raise KeyError("missing")

    kind = type("Failing", (TcpProxy,), {hook: fails})
    hooks = kind()
    hooks.upstreams = LoadBalancer([address])
    proxy = proxy_factory(hooks)
    assert talk(proxy, b"hello") == (b"hello" if hook == "logging" else b"")
    wait_until(lambda: f"hook {hook} raised for the connection of 127.0.0.1:" in caplog.text)
    assert failures(proxy, "hook_raised") == (hook != "logging")
    is_over(proxy)


def test_a_hook_that_awaits_too_long_ends_its_connection(proxy_factory):
    class Waiting(TcpProxy):
        hook_timeouts = {"upstream_peer": 0.05}

        async def upstream_peer(self, session):
            await asyncio.sleep(3600)

    proxy = proxy_factory(Waiting())
    with proxy.connect(10) as client:
        assert read_all(client) == b""
    assert failures(proxy, "hook_timeout") == 1
    is_over(proxy)


def test_a_logging_hook_that_awaits_too_long_is_cancelled_and_nothing_has_failed(proxy_factory, peer_factory):
    errors = []

    class Slow(TcpProxy):
        upstreams = LoadBalancer([peer_factory(echo).address])
        hook_timeouts = {"logging": 0.05}

        async def logging(self, session, error):
            try:
                await asyncio.sleep(3600)
            finally:
                errors.append(session.error)

    proxy = proxy_factory(Slow())
    assert talk(proxy, b"hello") == b"hello"
    wait_until(lambda: errors)
    is_over(proxy)
    assert errors == [None]


def test_a_client_that_leaves_while_a_hook_awaits_cancels_it(proxy_factory):
    cancelled = []
    awaits = threading.Event()

    class Waiting(TcpProxy):
        async def upstream_peer(self, session):
            awaits.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(session.client_address)
                raise

    proxy = proxy_factory(Waiting())
    client = proxy.connect(10)
    awaits.wait(10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_until(lambda: cancelled)
    is_over(proxy)


def test_what_is_no_peer_and_no_farewell_is_told(proxy_factory, caplog):
    class Wrong(TcpProxy):
        def upstream_peer(self, session):
            return "127.0.0.1:1"

    assert talk(proxy_factory(Wrong()), b"") == b""
    wait_until(lambda: "upstream_peer: expected an HttpPeer, got '127.0.0.1:1'" in caplog.text)


# -- choice of upstreams


def test_an_upstream_that_refuses_is_followed_by_another(proxy_factory, peer_factory):
    proxy = proxy_factory(to(refusing_address(), refusing_address(), peer_factory(told(b"third")).address))
    for _ in range(3):
        assert talk(proxy, b"hello") == b"third:hello"
    assert counted(proxy, "pingora_retries_total") == counted(proxy, "pingora_upstream_attempts_total") - 3 > 0


def test_without_an_upstream_the_connection_ends_with_the_reason_in_the_log(proxy_factory, caplog):
    caplog.set_level(logging.WARNING)
    refusing = to(refusing_address())
    refusing.retry = RetryPolicy(attempts=1)
    proxy = proxy_factory(refusing)
    assert talk(proxy, b"hello") == b""
    wait_until(lambda: "connection for no name: connect_failed" in caplog.text)
    assert failures(proxy, "connect_failed") == 1
    is_over(proxy)


def test_a_hook_is_asked_for_each_attempt_and_its_balancer_leaves_out_what_failed(proxy_factory, peer_factory):
    balancer = LoadBalancer([refusing_address(), peer_factory(told(b"second")).address])
    asked = []

    class Asking(TcpProxy):
        def upstream_peer(self, session):
            asked.append(session.attempts)
            return HttpPeer(balancer.select())

    proxy = proxy_factory(Asking())
    for _ in range(2):
        assert talk(proxy, b"hello") == b"second:hello"
    assert asked == [0, 1, 0, 1]


def test_no_upstream_in_a_hook_is_no_fault_of_the_hook(proxy_factory, caplog):
    class Nobody(TcpProxy):
        def upstream_peer(self, session):
            raise NoUpstream("none is there")

    proxy = proxy_factory(Nobody())
    assert talk(proxy, b"") == b""
    wait_until(lambda: failures(proxy, "no_upstream") == 1)


def test_a_connect_that_takes_too_long_fails(proxy_factory):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = []
        for _ in range(8):  # fills the queue of a listener that nobody accepts from
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(full.getsockname())
            held.append(client)

        class Slow(TcpProxy):
            retry = RetryPolicy(attempts=1)

            def upstream_peer(self, session):
                return HttpPeer(f"127.0.0.1:{full.getsockname()[1]}", connect_timeout=0.05)

        proxy = proxy_factory(Slow())
        assert talk(proxy, b"") == b""
        wait_until(lambda: failures(proxy, "connect_timeout") == 1)
        for client in held:
            client.close()


# -- limits


def test_a_connection_in_which_nothing_moves_is_cut(proxy_factory, peer_factory):
    proxy = proxy_factory(to(peer_factory(echo).address), Limits(tunnel_timeout=0.1))
    with proxy.connect(10) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        assert read_all(client) == b""
    wait_until(lambda: failures(proxy, "tunnel_timeout") == 1)
    is_over(proxy)


def test_a_client_that_takes_nothing_is_cut(proxy_factory, peer_factory):
    def flood(connection):
        while True:
            connection.sendall(b"x" * 65536)

    proxy = proxy_factory(to(peer_factory(flood).address), Limits(write_timeout=0.1))
    with proxy.connect(30) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wait_until(lambda: failures(proxy, "client_stalled") == 1)
    is_over(proxy)


def test_an_upstream_that_takes_nothing_is_cut(proxy_factory, peer_factory):
    ends = threading.Event()

    class Stalled(TcpProxy):
        peer = HttpPeer(peer_factory(lambda connection: ends.wait(30)).address, write_timeout=0.1)

        def upstream_peer(self, session):
            return self.peer

    proxy = proxy_factory(Stalled())
    with proxy.connect(30) as client, contextlib.suppress(OSError):
        while not failures(proxy, "upstream_write_timeout"):
            client.sendall(b"x" * 65536)
    ends.set()
    wait_until(lambda: failures(proxy, "upstream_write_timeout") == 1)
    is_over(proxy)


def test_a_client_has_as_many_connections_as_it_may(proxy_factory, peer_factory):
    proxy = proxy_factory(to(peer_factory(echo).address), Limits(client_connections=1))
    with proxy.connect(10) as first:
        first.sendall(b"a")
        assert first.recv(1) == b"a"
        with proxy.connect(10) as second:
            assert read_all(second) == b""
    is_over(proxy)
    assert talk(proxy, b"again") == b"again"


# -- PROXY protocol, Unix sockets, logs


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("is_introduced", [False, True])
def test_the_upstream_is_told_the_client(proxy_factory, peer_factory, version, is_introduced):
    seen = []

    class Telling(TcpProxy):
        peer = HttpPeer(
            peer_factory(lambda connection: seen.append(read_all(connection))).address, proxy_protocol=version
        )

        def upstream_peer(self, session):
            return self.peer

    proxy = proxy_factory(Telling(), proxy_protocol=HERE if is_introduced else None)
    with proxy.connect(10) as client:
        port = client.getsockname()[1]
        client.sendall((LINE if is_introduced else b"") + b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    size, (number, _, source, destination, _) = parse(seen[0])
    assert seen[0][size:] == b"hello"
    assert f"v{number}" == version
    if is_introduced:
        assert (source, destination) == ((bytes([192, 0, 2, 1]), 56324), (bytes([203, 0, 113, 9]), 443))
    else:
        assert (source, destination) == ((bytes([127, 0, 0, 1]), port), (bytes([127, 0, 0, 1]), proxy.port))


@pytest.mark.parametrize("is_abstract", [False, True])
def test_unix_sockets_on_both_sides(proxy_factory, peer_factory, tmp_path, is_abstract):
    abstract = f"{os.getpid()}/{tmp_path.name}"
    name = ("\0" + abstract if is_abstract else str(tmp_path)) + "/origin"
    peer_factory(told(b"origin"), family=socket.AF_UNIX, address=name)
    where = f"unix:@{abstract}/front" if is_abstract else f"unix:{tmp_path}/front"
    proxy = proxy_factory(to(f"unix:{name.replace(chr(0), '@')}"), listen=where)
    with proxy.connect(10) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"origin:hello"
    is_over(proxy)


def test_what_a_unix_client_sent_before_it_closed_arrives(proxy_factory, peer_factory, tmp_path):
    got = []

    class Slow(TcpProxy):
        peer = HttpPeer(peer_factory(lambda connection: got.append(read_all(connection))).address)

        async def upstream_peer(self, session):
            await asyncio.sleep(0.02)
            return self.peer

    proxy = proxy_factory(Slow(), listen=f"unix:{tmp_path}/front")
    with proxy.connect(10) as client:
        client.sendall(b"one way")
    wait_until(lambda: got)
    assert got == [b"one way"]


def test_a_connection_is_a_line_of_the_access_log(peer_factory, tmp_path):
    address = peer_factory(told(b"origin")).address
    options = ["--from", f"tcp://unix:{tmp_path}/a", "--to", f"tcp://{address}", "--access-log", "json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pingora", "run", *options, "--workers", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    with socket.socket(socket.AF_UNIX) as client:
        wait_until(lambda: process.poll() is not None or client.connect_ex(f"{tmp_path}/a") == 0)
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"origin:hello"
    line = json.loads(process.stdout.readline())
    process.terminate()
    process.communicate(timeout=30)
    assert {"method": "CONNECTION", "target": "-", "protocol": "TCP", "status": None}.items() <= line.items()
    assert {"bytes_sent": 12, "bytes_received": 5, "upstream": address, "attempts": 1}.items() <= line.items()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "tcp://:1", "--to", "http://a:1"], "expected tcp://host:port or tls://host:port beside tcp://"),
        (["--from", "http://:1", "--to", "tcp://127.0.0.1:1"], "expected tls://host:port, tcp://host:port"),
        (["--from", "tcp://:1", "--to", "tcp://127.0.0.1"], "expected a port"),
    ],
)
def test_what_does_not_go_together_is_told(arguments, message):
    with pytest.raises(UsageError, match=message):
        load(Program(None, (arguments[1],), (arguments[3],)))
