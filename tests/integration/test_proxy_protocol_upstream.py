"""Upstreams that are told the client by the PROXY protocol: what is sent, and that no connection serves two clients."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from conversations import GET, more_of, wait_until
from h2_upstream import n_groups
from http2_frames import GET as GET_OF_HTTP2
from http2_frames import FrameClient
from inside import RESET
from pki import Authority

from pingora import HttpPeer, LoadBalancer, PeerOptions, ProxyHttp, TcpProxy, UpstreamTls
from pingora.testing import read_all
from pingora_c.prelude.proxy_header import parse

HERE = ["127.0.0.0/8"]
KEEP = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
LINE = b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n"
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
HAPROXY = shutil.which("haproxy", path=PATH)
NGINX = shutil.which("nginx", path=PATH)


class HeaderOrigin:
    """An origin that reads a PROXY header, perhaps TLS behind it, and answers every request."""

    def __init__(self, context=None):
        self.context = context
        self.headers = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            data = b""
            while not (parsed := parse(data))[0]:
                data += more_of(connection, 1)
            self.headers.append(parsed[1])
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(OK * data.count(b"\r\n\r\n"))


@pytest.fixture
def origin():
    made = HeaderOrigin()
    yield made
    made.listener.close()


def to(address, version, **options):
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer([address], peer=PeerOptions(proxy_protocol=version), **options)
    return proxy


def ask(client):
    client.sendall(KEEP)
    got = b""
    while not got.endswith(b"hi"):
        got += more_of(client)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_client_and_the_address_it_connected_to_are_named(proxy_factory, origin, version):
    proxy = proxy_factory(to(origin.address, version))
    with proxy.connect(10) as client:
        port = client.getsockname()[1]
        client.sendall(GET)
        assert read_all(client).endswith(b"hi")
    local = bytes([127, 0, 0, 1])
    assert origin.headers == [(int(version[1]), False, (local, port), (local, proxy.port), ())]


def test_a_connection_is_used_again_for_its_client_and_for_no_other(proxy_factory, origin):
    proxy = proxy_factory(to(origin.address, "v2"))
    with proxy.connect(10) as first, proxy.connect(10) as second:
        for client in (first, second, first, second, first):
            ask(client)
        ports = [client.getsockname()[1] for client in (first, second)]
    assert [header[2][1] for header in origin.headers] == ports


def test_clients_that_were_introduced_are_passed_on_and_share_nothing(proxy_factory, origin):
    proxy = proxy_factory(to(origin.address, "v1"), proxy_protocol=HERE)
    with proxy.connect(10) as first, proxy.connect(10) as second:
        first.sendall(LINE)
        second.sendall(LINE.replace(b"56324", b"56325"))
        for client in (first, second, first):
            ask(client)
    assert [header[2] for header in origin.headers] == [(bytes([192, 0, 2, 1]), port) for port in (56324, 56325)]
    assert origin.headers[0][3] == (bytes([203, 0, 113, 9]), 443)


def test_a_peer_without_it_shares_no_connection_with_one_that_has_it(proxy_factory, origin_factory):
    plain = origin_factory(OK)
    seen = []

    class Both(ProxyHttp):
        def upstream_peer(self, session, ctx):
            version = "v1" if session.request.path == "/told" else None
            seen.append(version)
            return HttpPeer(plain.address, proxy_protocol=version)

    proxy = proxy_factory(Both())
    with proxy.connect(10) as client:
        for path in (b"/told", b"/", b"/told"):
            client.sendall(KEEP.replace(b" / ", b" " + path + b" "))
            got = b""
            while not got.endswith(b"hi"):
                got += more_of(client)
    assert [head.startswith(b"PROXY TCP4 127.0.0.1 ") for head in plain.heads] == [True, False, False]
    assert plain.n_connections == 2
    assert seen == ["v1", None, "v1"]


def test_the_header_comes_before_tls(proxy_factory, tmp_path):
    ca = Authority()
    chain, key = ca.issue("a.example").write(tmp_path, "a")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    origin = HeaderOrigin(context)
    proxy = ProxyHttp()
    tls = UpstreamTls(ca=ca.chain, server_name="a.example")
    peer = PeerOptions(proxy_protocol="v2")
    proxy.upstreams = LoadBalancer([f"https://{origin.address}"], tls=tls, peer=peer)
    running = proxy_factory(proxy)
    with running.connect(10) as client:
        client.sendall(GET)
        assert read_all(client).endswith(b"hi")
    assert origin.headers[0][2][0] == bytes([127, 0, 0, 1])
    origin.listener.close()


def test_of_clients_nothing_is_left_where_the_upstream_might_have_chosen_http2(proxy_factory, tmp_path):
    before = n_groups()
    chain, key = Authority().issue("a.example").write(tmp_path, "a")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["http/1.1"])
    origin = HeaderOrigin(context)
    peer = PeerOptions(proxy_protocol="v1", protocol="h2h1")
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer([f"https://{origin.address}"], tls=UpstreamTls(verify=False), peer=peer)
    running = proxy_factory(proxy)
    with running.connect(10) as first, running.connect(10) as second:
        for client in (first, second, first, second):
            ask(client)
    assert len(origin.headers) == 2
    assert n_groups() <= before
    origin.listener.close()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_client_on_a_unix_socket_is_not_named(proxy_factory, origin, tmp_path, version):
    proxy = proxy_factory(to(origin.address, version), listen=f"unix:{tmp_path}/a")
    with proxy.connect(10) as client:
        client.sendall(GET)
        assert read_all(client).endswith(b"hi")
    assert origin.headers[0][2] is None


@pytest.mark.parametrize(
    "make", [lambda: HttpPeer("127.0.0.1:1", proxy_protocol="v3"), lambda: PeerOptions(proxy_protocol="3")]
)
def test_another_version_is_told(make):
    with pytest.raises(ValueError, match='expected "v1" or "v2"'):
        make()


# -- beside HAProxy and nginx


@pytest.fixture
def program(tmp_path):
    """Start a program on a socket of ours, which it gets as a descriptor."""
    running = []

    def start(command, config, listener, **environment):
        file = tmp_path / f"config{len(running)}"
        file.write_text(config)
        fd = listener.fileno()
        process = subprocess.Popen(
            [part.replace("CONFIG", str(file)) for part in command],
            pass_fds=[fd],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        running.append(process)

    yield start
    for process in running:
        process.terminate()
        process.wait(10)


def haproxy(listener, bind, server, mode="http"):
    return (
        f"global\n  nbthread 1\ndefaults\n  mode {mode}\n  timeout client 10s\n  timeout server 10s\n"
        f"  timeout connect 5s\nfrontend in\n  bind fd@{listener.fileno()} {bind}\n  default_backend next\n"
        f"backend next\n  {server}\n"
    )


@pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed (Debian: apt install haproxy)")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_as_upstream_reads_what_is_sent(proxy_factory, origin_factory, program, version):
    origin = origin_factory(OK)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = haproxy(listener, "accept-proxy", f"option forwardfor\n  server a {origin.address}")
        program([HAPROXY, "-db", "-q", "-f", "CONFIG"], config, listener)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        proxy = proxy_factory(to(address, version), proxy_protocol=HERE)
        with proxy.connect(30) as client:
            client.sendall(LINE + GET)
            assert read_all(client).endswith(b"hi")
    assert origin.heads[0].lower().count(b"x-forwarded-for: 192.0.2.1\r\n") == 2


@pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed (Debian: apt install haproxy)")
@pytest.mark.parametrize(
    "sends",
    ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"],
    ids=["v1", "v2", "tlvs"],
)
def test_what_haproxy_sends_is_read(proxy_factory, origin_factory, program, sends):
    seen = []

    class Noting(ProxyHttp):
        peer = HttpPeer(origin_factory(OK).address)

        def upstream_peer(self, session, ctx):
            seen.append((session.client_address, session.proxy_protocol))
            return self.peer

    proxy = proxy_factory(Noting(), proxy_protocol=HERE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = haproxy(listener, "", f"server a {proxy.address} {sends}", "tcp")
        config = config.replace("  default_backend", "  unique-id-format id-%ci\n  default_backend")
        program([HAPROXY, "-db", "-q", "-f", "CONFIG"], config, listener)
        with socket.create_connection(listener.getsockname(), 30) as client:
            port = client.getsockname()[1]
            client.sendall(GET)
            assert read_all(client).endswith(b"hi")
    address, told = seen[0]
    assert address == told.source == f"127.0.0.1:{port}"
    assert (told.unique_id is not None) == ("unique-id" in sends)


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt install nginx-light)")
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_nginx_as_upstream_reads_what_is_sent(proxy_factory, program, tmp_path, version, kind):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        paths = "".join(
            f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""  # another one may not read the test's files
        config = (
            f"daemon off; {user} worker_processes 1; pid {tmp_path}/pid; error_log {tmp_path}/error.log;"
            f"events {{}} http {{ access_log off; {paths} server {{ listen {host} proxy_protocol;"
            'location / { return 200 "$proxy_protocol_addr $proxy_protocol_server_port"; } } }'
        )
        command = [NGINX, "-e", str(tmp_path / "error.log"), "-p", str(tmp_path), "-c", "CONFIG"]
        program(command, config, listener, NGINX=f"{listener.fileno()};")
        if kind == "http":
            hooks = to(host, version)
        else:
            hooks = TcpProxy()
            hooks.upstreams = LoadBalancer([host], peer=PeerOptions(proxy_protocol=version))
        proxy = proxy_factory(hooks, proxy_protocol=HERE)
        with proxy.connect(30) as client:
            client.sendall(LINE + GET)
            assert read_all(client).endswith(b"192.0.2.1 443")
    wait_until(lambda: proxy.serving.counters["pingora_connections_open"] == 0)


class WaitsForTheEnd(ProxyHttp):
    """Hooks that go on as soon as the first of their sessions has ended."""

    def __init__(self, address):
        self.peer = HttpPeer(address, proxy_protocol="v1")
        self.n_waiting = 0
        self.reasons = []
        self.has_ended = None

    def upstream_peer(self, session, ctx):
        return self.peer

    async def request_filter(self, session, ctx):
        self.has_ended = self.has_ended or asyncio.Event()
        self.n_waiting += 1
        await self.has_ended.wait()

    def logging(self, session, error, ctx):
        self.reasons.append(error.reason)
        self.has_ended.set()


def test_nobody_is_asked_in_the_name_of_a_client_that_is_gone(proxy_factory, origin):
    """Its sessions end a few in a turn: hooks of the others may end before they hear of it."""
    hooks = WaitsForTheEnd(origin.address)
    proxy = proxy_factory(hooks)
    with FrameClient(proxy) as client:
        client.send(*[client.head(GET_OF_HTTP2, i) for i in range(1, 200, 2)])
        wait_until(lambda: hooks.n_waiting == 100)
    wait_until(lambda: len(hooks.reasons) == 100)
    assert set(hooks.reasons) == {"client_gone"}
    assert origin.headers == []


class Held(TcpProxy):
    """Chooses when the test lets it."""

    def __init__(self, address):
        self.peer = HttpPeer(address, proxy_protocol="v1")
        self.is_asked, self.may_go_on = threading.Event(), threading.Event()

    def upstream_peer(self, session):
        self.is_asked.set()
        self.may_go_on.wait(10)
        return self.peer


def test_a_client_of_tcp_that_has_reset_is_no_failure_of_the_upstream(proxy_factory, origin):
    hooks = Held(origin.address)
    proxy = proxy_factory(hooks)
    with proxy.connect() as client:
        assert hooks.is_asked.wait(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    hooks.may_go_on.set()
    wait_until(lambda: proxy.serving.counters['pingora_failures_total{reason="client_gone"}'] == 1)
    assert proxy.serving.counters["pingora_upstream_attempts_total"] == 0
    assert origin.headers == []
