"""nginx and HAProxy as origins behind the proxy, and as proxies in front of it."""

import contextlib
import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conversations import wait_until

from pingora import LoadBalancer, ProxyHttp

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
NGINX = shutil.which("nginx", path=PATH)
HAPROXY = shutil.which("haproxy", path=PATH)
pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt install nginx-light)"),
    pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed (Debian: apt install haproxy)"),
]

LARGE = 5 * 1024 * 1024
PAGE = b"<html>before after</html>\n"
CHAINS = ["pingora > nginx", "pingora > haproxy > nginx", "nginx > pingora > nginx", "haproxy > pingora > nginx"]

NGINX_CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/proxied;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {http}
    server {{
        listen {address};
        {server}
    }}
}}
"""
NGINX_ORIGIN = """
        root {directory}/files;
        ssi_types text/plain;
        add_header X-Client-Port $remote_port always;
        add_header X-Framing "$http_transfer_encoding/$http_content_length" always;
        location = /small { return 200 "small\\n"; }
        location = /gone { return 410 "gone\\n"; }
        location = /page.html { ssi on; }
        location /upload/ { dav_methods PUT; create_full_put_path on; }
"""
NGINX_FRONT_HTTP = "upstream next { server {next}; keepalive 8; }"
NGINX_FRONT = """
        location / {
            proxy_pass http://next;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
        }
"""
HAPROXY_CONFIG = """
global
    nbthread 1
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 2s
    retries 0
    http-reuse always
frontend in
    bind fd@{fd}
    http-after-response set-header X-Client-Port %[src_port]
    default_backend next
backend next
    server next {next}
"""


def fill(template: str, **values: object) -> str:
    """Put values into a configuration that is full of braces of its own."""
    for name, value in values.items():
        template = template.replace("{" + name + "}", str(value))
    return template


class Daemon:
    """A program on a socket that the test opened: it can be connected to at once, and no port is guessed."""

    def __init__(self, directory: Path, kind: str, target: str = "", settings: str = "", address: str = "") -> None:
        directory.mkdir(exist_ok=True)
        host, _, port = (address or "127.0.0.1:0").partition(":")
        with socket.create_server((host, int(port)), backlog=512) as listener:
            self.address = f"127.0.0.1:{listener.getsockname()[1]}"
            fd = listener.fileno()
            if kind == "nginx":
                command = self.nginx(directory, target, settings)
            else:
                command = self.haproxy(directory, target, fd)
            with (directory / "output").open("wb") as output:
                self.process = subprocess.Popen(
                    command,
                    pass_fds=[fd],
                    env={**os.environ, "NGINX": f"{fd};"},  # how nginx hands its sockets to its own successor
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def nginx(self, directory: Path, target: str, settings: str) -> list[str]:
        """Write the configuration of an origin, or of a proxy in front of `target`."""
        server = NGINX_FRONT if target else fill(NGINX_ORIGIN, directory=directory)
        http = fill(NGINX_FRONT_HTTP, next=target) if target else ""
        config = directory / "nginx.conf"
        # A worker of a master that is root would become another user, who may not read the test's files.
        user = "user root;" if os.geteuid() == 0 else ""
        values = {"directory": directory, "address": self.address, "user": user}
        config.write_text(NGINX_CONFIG.format(**values, http=http + settings, server=server))
        return [str(NGINX), "-e", str(directory / "error.log"), "-p", str(directory), "-c", str(config)]

    def haproxy(self, directory: Path, target: str, fd: int) -> list[str]:
        """Write the configuration of a proxy in front of `target`."""
        config = directory / "haproxy.cfg"
        config.write_text(fill(HAPROXY_CONFIG, fd=fd, next=target))
        return [str(HAPROXY), "-db", "-q", "-f", str(config)]

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; the port refuses from then on."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        self.process.wait(10)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start daemons: `daemon(kind, target="", settings="", address="")`."""
    running: list[Daemon] = []
    files = tmp_path / "nginx0" / "files"
    (files / "upload").mkdir(parents=True)
    (files / "large").write_bytes(os.urandom(LARGE))
    (files / "page.html").write_bytes(PAGE.replace(b" ", b'<!--# set var="a" value="b" --> '))
    with (files / "huge").open("wb") as huge:
        huge.truncate(64 * LARGE)

    def start(kind: str, target: str = "", settings: str = "", address: str = "") -> Daemon:
        name = f"{kind}{len(running)}" if target else "nginx0"
        running.append(Daemon(tmp_path / name, kind, target, settings, address))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture(params=CHAINS)
def chain(request, daemon, proxy_factory):
    """The address where a client enters a chain of proxies, at whose end nginx serves `files`."""
    address = ""
    for kind in reversed(request.param.split(" > ")):
        address = proxy_to(proxy_factory, address).address if kind == "pingora" else daemon(kind, address).address
    return address


@pytest.fixture
def files(tmp_path):
    return tmp_path / "nginx0" / "files"


def proxy_to(proxy_factory, *addresses):
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer(list(addresses))
    return proxy_factory(proxy)


@contextlib.contextmanager
def client_of(address):
    """Give a function that asks over one kept connection: (method, path, …) -> (answer, body)."""
    connection = http.client.HTTPConnection(address, timeout=10)

    def ask(method, path, body=None, headers={}):  # noqa: B006 - only read
        connection.request(method, path, body, headers, encode_chunked=True)
        answer = connection.getresponse()
        return answer, answer.read()

    with contextlib.closing(connection):
        connection.connect()
        ask.sock = connection.sock
        yield ask
        assert connection.sock in (ask.sock, None), "http.client connected again"


def digest(data):
    return hashlib.sha256(data).hexdigest()


def test_small_answers_follow_each_other_on_one_connection(chain):
    with client_of(chain) as ask:
        for _ in range(10):
            answer, body = ask("GET", "/small")
            assert (answer.status, body, answer.getheader("content-length")) == (200, b"small\n", "6")


def test_a_large_answer_arrives_whole(chain, files):
    with client_of(chain) as ask:
        for _ in range(2):
            answer, body = ask("GET", "/large")
            assert answer.getheader("content-length") == str(LARGE)
            assert digest(body) == digest((files / "large").read_bytes())


def test_head_tells_the_length_and_sends_no_body(chain):
    with client_of(chain) as ask:
        answer, body = ask("HEAD", "/large")
        assert (answer.status, answer.getheader("content-length"), body) == (200, str(LARGE), b"")
        assert ask("GET", "/small")[1] == b"small\n"


def test_a_part_of_a_file_is_206(chain, files):
    with client_of(chain) as ask:
        answer, body = ask("GET", "/large", headers={"Range": "bytes=1000000-1999999"})
        assert (answer.status, answer.getheader("content-range")) == (206, f"bytes 1000000-1999999/{LARGE}")
        assert digest(body) == digest((files / "large").read_bytes()[1_000_000:2_000_000])


def test_what_did_not_change_is_304_and_the_connection_goes_on(chain):
    with client_of(chain) as ask:
        tag = ask("HEAD", "/large")[0].getheader("etag")
        for _ in range(3):
            answer, body = ask("GET", "/large", headers={"If-None-Match": tag})
            assert (answer.status, answer.getheader("etag"), body) == (304, tag, b"")
        assert ask("GET", "/small")[1] == b"small\n"


def test_an_answer_of_unknown_length_is_chunked_all_the_way(chain):
    with client_of(chain) as ask:
        for _ in range(3):
            answer, body = ask("GET", "/page.html")
            assert (answer.getheader("transfer-encoding"), answer.getheader("content-length")) == ("chunked", None)
            assert body == PAGE


@pytest.mark.parametrize("size", [0, 1, 70_000, LARGE])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["by length", "chunked"])
def test_an_upload_arrives_whole(chain, files, size, is_chunked):
    sent = os.urandom(size)
    body = (sent[i : i + 50_000] for i in range(0, size, 50_000)) if is_chunked else sent
    with client_of(chain) as ask:
        answer, _ = ask("PUT", "/upload/a", body, {"Transfer-Encoding": "chunked"} if is_chunked else {})
        assert answer.status == 201
        assert digest((files / "upload" / "a").read_bytes()) == digest(sent)
        assert ask("GET", "/small")[1] == b"small\n"


@pytest.mark.parametrize(
    ("headers", "body", "framing"),
    [
        pytest.param({}, b"abc", "/3", id="by length"),
        pytest.param({}, b"", "/0", id="empty by length"),
        pytest.param({"Transfer-Encoding": "chunked"}, [b"abc", b"def"], "chunked/", id="chunked"),
        pytest.param({"Transfer-Encoding": "chunked"}, [], "chunked/", id="empty chunked"),
    ],
)
def test_an_upload_goes_on_framed_as_it_came(daemon, proxy_factory, headers, body, framing):
    with client_of(proxy_to(proxy_factory, daemon("nginx").address).address) as ask:
        assert ask("PUT", "/upload/a", body, headers)[0].getheader("x-framing") == framing


def test_an_error_of_the_origin_passes_unchanged(chain):
    with client_of(chain) as ask:
        answer, body = ask("GET", "/gone")
        assert (answer.status, body) == (410, b"gone\n")
        assert ask("GET", "/nothing")[0].status == 404


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_an_origin_is_asked_over_one_kept_connection(daemon, proxy_factory, kind):
    origin = daemon("nginx")
    proxy = proxy_to(proxy_factory, origin.address if kind == "nginx" else daemon("haproxy", origin.address).address)
    ports = set()
    for path in ["/small", "/page.html", "/large", "/gone", "/small"]:
        with client_of(proxy.address) as ask:  # a new client connection each time
            ports.add(ask("GET", path)[0].getheader("x-client-port"))
    assert len(ports) == 1


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_proxy_in_front_keeps_its_connection_to_us(daemon, proxy_factory, kind):
    proxy = proxy_to(proxy_factory, daemon("nginx").address)
    front = daemon(kind, proxy.address)
    for path in ["/small", "/page.html", "/large", "/gone", "/small"]:
        with client_of(front.address) as ask:
            ask("GET", path)
    (service,) = proxy.serving.services
    assert (service.n_requests, service.n_connections) == (5, 1)


@pytest.mark.parametrize(
    "settings", ["keepalive_requests 3;", "keepalive_timeout 0;", "keepalive_timeout 1ms;"], ids=lambda text: text[:-1]
)
def test_an_origin_that_ends_its_connections_costs_no_request(daemon, proxy_factory, settings):
    proxy = proxy_to(proxy_factory, daemon("nginx", settings=settings).address)
    with client_of(proxy.address) as ask:
        assert [ask("GET", "/small")[1] for _ in range(200)] == [b"small\n"] * 200


def test_an_origin_that_stopped_is_502_and_one_that_came_back_is_used(daemon, proxy_factory):
    origin = daemon("nginx")
    proxy = proxy_to(proxy_factory, origin.address)
    with client_of(proxy.address) as ask:
        assert ask("GET", "/small")[0].status == 200
        origin.stop()
        for method in ("GET", "HEAD", "PUT"):
            assert ask(method, "/small")[0].status == 502
        daemon("nginx", address=origin.address)
        assert ask("GET", "/small")[0].status == 200


def test_a_proxy_behind_us_tells_503_of_an_origin_that_stopped(daemon, proxy_factory):
    origin = daemon("nginx")
    proxy = proxy_to(proxy_factory, daemon("haproxy", origin.address).address)
    with client_of(proxy.address) as ask:
        assert ask("GET", "/small")[0].status == 200
        origin.stop()
        assert ask("GET", "/small")[0].status == 503


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_proxy_in_front_passes_our_502_on(daemon, proxy_factory, kind):
    origin = daemon("nginx")
    front = daemon(kind, proxy_to(proxy_factory, origin.address).address)
    with client_of(front.address) as ask:
        assert ask("GET", "/small")[0].status == 200
        origin.stop()
        answer, body = ask("GET", "/small")
        assert (answer.status, body) == (502, b"502 connect_failed\n")


def test_an_origin_killed_in_the_middle_gives_a_cut_answer_and_then_502(daemon, proxy_factory):
    origin = daemon("nginx")
    proxy = proxy_to(proxy_factory, origin.address)
    connection = http.client.HTTPConnection(proxy.address, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/huge")
        answer = connection.getresponse()
        answer.read(1000)
        origin.stop(signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            answer.read()
    with client_of(proxy.address) as ask:
        assert ask("GET", "/small")[0].status == 502


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_proxy_killed_in_front_of_us_leaves_no_session_behind(daemon, proxy_factory, kind):
    proxy = proxy_to(proxy_factory, daemon("nginx").address)
    front = daemon(kind, proxy.address)
    with socket.create_connection(front.address.split(":"), 10) as client:
        client.sendall(b"GET /huge HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        front.stop(signal.SIGKILL)
    with client_of(proxy.address) as ask:
        assert ask("GET", "/small")[1] == b"small\n"
    (service,) = proxy.serving.services
    wait_until(lambda: (service.n_connections, service.n_active) == (0, 0))
