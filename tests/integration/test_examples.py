"""Every file of examples/ does what it says: its classes over real sockets, its server as a program."""

import importlib.util
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from conversations import GET, dechunk, more_of, post
from ssh_server import ssh_server
from tls_origin import TlsOrigin
from websocket_ends import client_of, echo, origins
from websockets.exceptions import ConnectionClosed

from pingora import LoadBalancer

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {path.stem: path for path in sorted(EXAMPLES.glob("*.py"))}
CURL = ["curl", "-sS", "-i", "--retry", "20", "--retry-delay", "0", "--retry-all-errors", "--retry-max-time", "15"]
PAGE = b"<html><body>hello</body></html>"
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE)
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"


def load(name):
    """Import an example by its path; nothing of it listens."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", FILES[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text(body, *fields):
    lines = "".join(f"{field}\r\n" for field in fields)
    return f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def get(path="/", *fields):
    lines = "".join(f"{field}\r\n" for field in fields)
    return f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n".encode()


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def body_of(answer):
    return answer.partition(b"\r\n\r\n")[2]


def hang_up(connection, data):
    connection.shutdown(socket.SHUT_RDWR)


def test_every_example_has_a_test_of_its_own():
    tests = [name for name in globals() if name.startswith("test_")]
    assert [stem for stem in FILES if not any(name.startswith(f"test_{stem}_") for name in tests)] == []


def test_gateway_asks_for_the_key_and_edits_both_heads(proxy_factory, origin_factory):
    origin = origin_factory(text("hello", "Server: origin"))
    gateway = load("gateway").Gateway()
    gateway.upstreams = LoadBalancer([origin.address])
    proxy = proxy_factory(gateway)
    assert status_of(proxy.exchange(get())) == 403
    answer = proxy.exchange(get("/", "x-api-key: secret"))
    assert answer.endswith(b"hello")
    assert b"\r\nServer: pingora\r\n" in answer
    assert b"\r\nx-gateway: pingora\r\n" in origin.heads[0]


def test_websocket_moderates_what_clients_say(proxy_factory):
    with origins() as start:
        address, ends = start(echo)
        with client_of(proxy_factory(load("websocket").Moderated([address]))) as client:
            for said, heard in [
                ("hello", "hello"),
                ("what a Darn", "what a ****"),
                ("darned", "darned"),
                (b"darn", b"darn"),
            ]:
                client.send(said)
                assert client.recv(timeout=10) == heard
            client.send("/time")
            assert client.recv(timeout=10).count(":") == 2
            client.send("spam spam spam")
            with pytest.raises(ConnectionClosed):
                client.recv(timeout=10)
            assert (client.close_code, client.close_reason) == (4000, "no advertising")
        assert ends.wait() == (4000, "no advertising")


def certified(directory):
    """Make cert.pem and key.pem for localhost."""
    command = [sys.executable, "-m", "pingora", "cert", "self-signed", "localhost"]
    subprocess.run(command, check=True, cwd=directory, timeout=60)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_load_balancer_accepts_tls_balances_by_weight_and_shows_metrics(tmp_path, origin_factory):
    certified(tmp_path)
    source = FILES["load_balancer"].read_text()
    assert len(source.splitlines()) < 30
    for port, name in ((9001, "a"), (9002, "b")):
        source = source.replace(f"127.0.0.1:{port}", origin_factory(text(name)).address)
    source = source.replace('"127.0.0.1:8443"', f'"unix:{tmp_path}/0.sock"')
    (tmp_path / "balancer.py").write_text(source.replace("127.0.0.1:9090", f"unix:{tmp_path}/metrics.sock"))
    ask = {"capture_output": True, "text": True, "timeout": 60, "cwd": tmp_path}
    fetch = [*CURL, "--cacert", "cert.pem", "--unix-socket", "0.sock"]
    command = [sys.executable, "-m", "pingora", "run", "balancer.py"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as serving:
        urls = ["https://localhost/", "https://localhost/"] * 4
        balanced = subprocess.run([*fetch, "-H", "cf-ipcountry: FR", *urls], **ask)
        shown = subprocess.run([*CURL, "--unix-socket", "metrics.sock", "http://localhost/metrics"], **ask)
        serving.send_signal(signal.SIGTERM)
        _, errors = serving.communicate(timeout=20)
    assert (serving.returncode, balanced.returncode) == (0, 0), balanced.stderr + errors
    assert sorted(re.findall("^([ab])(?:HTTP|$)", balanced.stdout, re.M)) == ["a"] * 6 + ["b"] * 2
    assert 'requests_by_country_total{country="FR"} 8' in shown.stdout
    assert "pingora_tls_handshakes_total 1" in shown.stdout


def test_sticky_keeps_a_user_and_a_client_at_one_origin(proxy_factory, origin_factory):
    origins = [(origin_factory(text(name)).address, 1) for name in "abc"]
    proxy = proxy_factory(load("sticky").Sticky(origins))
    seen = {}
    for user in (*(f"x-user: {n}" for n in range(30)), "x-other: 1"):
        seen[user] = {body_of(proxy.exchange(get("/", user))) for _ in range(3)}
    assert {len(bodies) for bodies in seen.values()} == {1}
    assert set.union(*seen.values()) == {b"a", b"b", b"c"}


@pytest.mark.parametrize("given", [None, "42"], ids=["without an id", "with an id"])
def test_rewrite_headers_names_a_request_on_both_sides(proxy_factory, origin_factory, given):
    origin = origin_factory(text("hello", "Server: secret/1.0", "Vary: accept"))
    proxy = proxy_factory(load("rewrite_headers").Rewriting([origin.address]))
    answer = proxy.exchange(get("/", "Cookie: a=1", *([f"X-Request-Id: {given}"] if given else [])))
    sent = next(line for line in origin.heads[0].split(b"\r\n") if line.lower().startswith(b"x-request-id: "))
    assert sent.lower() + b"\r\n" in answer.lower()
    assert len(sent) == len("x-request-id: ") + (2 if given else 36)
    assert b"cookie" not in origin.heads[0].lower()
    assert b"secret" not in answer
    assert b"x-content-type-options: nosniff\r\n" in answer
    assert b"Vary: accept\r\n" in answer
    assert b"vary: accept-encoding\r\n" in answer


@pytest.mark.parametrize(
    ("path", "status", "body", "seen"),
    [
        pytest.param("/api/users?id=1", 200, b"api", b"GET /users?id=1 HTTP/1.1\r\n", id="the prefix is cut off"),
        pytest.param("/files", 200, b"files", b"GET / HTTP/1.1\r\n", id="the prefix alone"),
        pytest.param("/other", 404, b"no such route\n", None, id="no route"),
        pytest.param("/apis", 404, b"no such route\n", None, id="a longer word is no route"),
        pytest.param("/api/%2e%2e/files", 400, b"no dot segments\n", None, id="dot segments"),
    ],
)
def test_route_by_path_chooses_and_rewrites(proxy_factory, origin_factory, path, status, body, seen):
    origins = {name: origin_factory(text(name)) for name in ("api", "files")}
    routes = {f"/{name}": [origin.address] for name, origin in origins.items()}
    answer = proxy_factory(load("route_by_path").Router(routes)).exchange(get(path))
    heads = [head for origin in origins.values() for head in origin.heads]
    assert (status_of(answer), body_of(answer)) == (status, body)
    assert [head.partition(b"\r\n")[0] + b"\r\n" for head in heads] == ([seen] if seen else [])


@pytest.mark.parametrize("pieces", [1, 2, len(HTML)], ids=["whole", "in two", "byte by byte"])
def test_rewrite_body_puts_a_line_into_html(proxy_factory, origin_factory, pieces):
    at = HTML.index(b"body>", HTML.index(b"hello"))  # in the middle of what is looked for
    parts = {1: [HTML], 2: [HTML[:at], HTML[at:]]}.get(pieces, [HTML[i : i + 1] for i in range(len(HTML))])

    def send(connection, data):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)

    origin = origin_factory(send)
    answer = proxy_factory(load("rewrite_body").Rewriting([origin.address])).exchange(GET)
    assert dechunk(answer)[0] == b"<html><body>hello<p>Seen by pingora.</p></body></html>"
    assert b"\r\naccept-encoding: identity\r\n" in origin.heads[0]


def test_rewrite_body_leaves_other_types_alone(proxy_factory, origin_factory):
    origin = origin_factory(text("</body>", "Content-Type: text/plain"))
    answer = proxy_factory(load("rewrite_body").Rewriting([origin.address])).exchange(GET)
    assert b"\r\nContent-Length: 7\r\n" in answer
    assert answer.endswith(b"\r\n\r\n</body>")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b'{"a": 1}', 200, id="JSON"),
        pytest.param(b'{"a": ', 400, id="cut short"),
        pytest.param(b"[" * 20_000, 400, id="too deep"),
        pytest.param(b'"' + b"x" * 70_000 + b'"', 413, id="too long"),
    ],
)
def test_rewrite_body_checks_json_before_the_origin_sees_it(proxy_factory, origin_factory, body, status):
    origin = origin_factory(text("fine"))
    proxy = proxy_factory(load("rewrite_body").Rewriting([origin.address]))
    assert status_of(proxy.exchange(post(body, b"Content-Type: application/json\r\n"))) == status
    assert len(origin.heads) == (status == 200)


def test_authentication_lets_in_by_token_and_asks_once_per_connection(proxy_factory, origin_factory):
    asked = []

    class Counting(load("authentication").Guarded):
        async def user_of(self, given):
            asked.append(given)
            return await super().user_of(given)

    origin = origin_factory(text("hello"))
    proxy = proxy_factory(Counting([origin.address]))
    statuses = []
    with proxy.connect() as client:
        for given in ("Bearer ada-secret", "Bearer ada-secret", "Bearer bob-secret", "Bearer wrong", None):
            field = "" if given is None else f"Authorization: {given}\r\n"
            client.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nX-User: root\r\n{field}\r\n".encode())
            statuses.append(status_of(client.recv(65536)))
    assert statuses == [200, 200, 200, 401, 401]
    assert asked == [b"Bearer ada-secret", b"Bearer bob-secret", b"Bearer wrong", b""]
    users = [line for head in origin.heads for line in head.lower().split(b"\r\n") if line.startswith(b"x-user")]
    assert users == [b"x-user: ada", b"x-user: ada", b"x-user: bob"]
    assert not any(b"authorization" in head.lower() for head in origin.heads)


def test_authentication_says_how_to_authenticate(proxy_factory):
    answer = proxy_factory(load("authentication").Guarded(["127.0.0.1:1"])).exchange(GET)
    assert status_of(answer) == 401
    assert b'\r\nwww-authenticate: Bearer realm="example"\r\n' in answer


def test_streaming_sends_events_until_the_client_leaves(proxy_factory, origin_factory):
    events = load("streaming").Events([origin_factory(text("other")).address], pause=0.001)
    proxy = proxy_factory(events)
    with proxy.connect() as client:
        client.sendall(get("/events"))
        answer = b""
        while b"id: 3\n" not in answer:
            answer += more_of(client)
    assert b"content-type: text/event-stream\r\n" in answer
    assert b"\r\nid: 1\ndata: " in answer
    assert proxy.exchange(GET).endswith(b"other")
    proxy.close()
    assert events.listening == 0


def test_embedded_runs_as_a_program():
    ended = subprocess.run([sys.executable, FILES["embedded"]], capture_output=True, text=True, timeout=60)
    assert ended.stdout.split(maxsplit=1)[1] == "200 pingora hello\n", ended.stderr


def test_retries_goes_on_where_somebody_listens(proxy_factory, origin_factory):
    proxy = proxy_factory(load("retries").Retrying(["127.0.0.1:1", origin_factory(text("hello")).address]))
    assert [body_of(proxy.exchange(post(b"x"))) for _ in range(4)] == [b"hello"] * 4


@pytest.mark.parametrize("first", [hang_up, BUSY], ids=["dies", "503"])
def test_retries_repeats_what_may_be_repeated(proxy_factory, origin_factory, first):
    origins = [origin_factory(first).address, origin_factory(text("hello")).address]
    proxy = proxy_factory(load("retries").Retrying(origins))
    assert [body_of(proxy.exchange(GET)) for _ in range(4)] == [b"hello"] * 4


@pytest.mark.parametrize("has_key", [True, False], ids=["with Idempotency-Key", "without"])
def test_retries_repeats_a_post_only_with_a_key(proxy_factory, origin_factory, has_key):
    origins = [origin_factory(hang_up).address, origin_factory(text("hello")).address]
    proxy = proxy_factory(load("retries").Retrying(origins))
    request = post(b"x", b"Idempotency-Key: 1\r\n" if has_key else b"")
    assert sorted(status_of(proxy.exchange(request)) for _ in range(4)) == [200] * (4 if has_key else 2) + [503] * (
        0 if has_key else 2
    )


def test_retries_says_when_to_come_back_if_all_fail(proxy_factory):
    answer = proxy_factory(load("retries").Retrying(["127.0.0.1:1"])).exchange(GET)
    assert status_of(answer) == 503
    assert b"\r\nretry-after: 5\r\n" in answer
    assert answer.endswith(b"connect_failed\n")


def test_in_memory_runs_as_a_program():
    ended = subprocess.run([sys.executable, FILES["in_memory"]], capture_output=True, text=True, timeout=60)
    assert ended.stdout.startswith("HTTP/1.1 200 OK\n"), ended.stderr
    assert "x-served-by: pingora\n" in ended.stdout
    assert ended.stdout.endswith("\nhello\n")


def test_ssh_reaches_an_origin_behind_an_ssh_server(proxy_factory, origin_factory):
    origin = origin_factory(text("hello"))
    with ssh_server() as options:
        proxy = proxy_factory(load("ssh").ThroughSsh(origin.address, options))
        assert [body_of(proxy.exchange(GET)) for _ in range(3)] == [b"hello"] * 3
        assert origin.n_connections == 1
        proxy.close()


def test_forward_proxy_opens_tunnels_for_members(proxy_factory, origin_factory):
    origin = origin_factory(text("hello"))
    proxy = proxy_factory(load("forward_proxy").Tunnels([origin.address]))
    connect = f"CONNECT {origin.address} HTTP/1.1\r\nHost: a\r\n".encode()
    for credentials in (b"", b"Proxy-Authorization: Basic YWRhOndyb25n\r\n", b"Proxy-Authorization: Basic ?\r\n"):
        answer = proxy.exchange(connect + credentials + b"\r\n" + GET)
        assert status_of(answer) == 407
        assert b"hello" not in answer
    answer = proxy.exchange(connect + b"Proxy-Authorization: Basic YWRhOnNlY3JldA==\r\n\r\n" + GET)
    assert status_of(answer) == 200
    assert answer.endswith(b"\r\n\r\nhello")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_tls_encrypts_on_both_sides(tmp_path):
    run = {"cwd": tmp_path, "text": True, "timeout": 60}
    certified(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with TlsOrigin(context, lambda connection, data: connection.sendall(text(data.decode()))) as origin:
        source = FILES["tls"].read_text().replace("127.0.0.1:9443", origin.address)
        (tmp_path / "tls.py").write_text(source.replace('"127.0.0.1:8443"', f'"unix:{tmp_path}/0.sock"'))
        command = [sys.executable, "-m", "pingora", "run", "tls.py"]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as serving:
            answer = subprocess.run(
                [*CURL, "--cacert", "cert.pem", "--unix-socket", f"{tmp_path}/0.sock", "https://localhost/"],
                capture_output=True,
                **run,
            )
            serving.send_signal(signal.SIGTERM)
            _, errors = serving.communicate(timeout=20)
    assert answer.stdout.startswith("HTTP/2 200"), answer.stderr + errors
    assert "x-tls: TLSv1.3 TLS_AES_128_GCM_SHA256" in answer.stdout
    assert "X-Forwarded-Proto: https" in answer.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("command", [["-m", "pingora", "run"], []], ids=["pingora run", "python"])
@pytest.mark.parametrize("name", sorted(set(FILES) - {"embedded", "in_memory", "load_balancer", "ssh", "tls"}))
def test_an_example_serves_as_a_program(tmp_path, origin_factory, name, command):
    # the ports that it names may be taken here, so a copy of it gets other addresses
    source = FILES[name].read_text()
    for number, port in enumerate((8080, 8081)):
        source = source.replace(f"127.0.0.1:{port}", f"unix:{tmp_path}/{number}.sock")
    for port in (9001, 9002):
        source = source.replace(f"127.0.0.1:{port}", origin_factory(text("hello")).address)
    program = tmp_path / f"{name}.py"
    program.write_text(source)
    with subprocess.Popen([sys.executable, *command, str(program)], stderr=subprocess.PIPE, text=True) as serving:
        answer = subprocess.run(
            [*CURL, "--unix-socket", str(tmp_path / "0.sock"), "http://localhost/"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        serving.send_signal(signal.SIGTERM)
        _, errors = serving.communicate(timeout=20)
    assert int(answer.stdout.split()[1]) in (200, 401, 403, 404, 407), answer.stderr + errors
    assert serving.returncode == 0, errors
