"""CONNECT: tunnels through a forward proxy, over HTTP/1.1 and HTTP/2, and all that is refused."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading

import pytest
from conversations import GET, Forwarding, wait_until
from http2_frames import FrameClient
from hyperframe.frame import DataFrame, RstStreamFrame
from inside import RESET
from pki import Authority
from tcp_peers import echo
from tls_origin import TlsOrigin

from pingora import ForwardProxy, HttpPeer, Limits, ProxyHttp, Response, Server
from pingora.testing import read_all
from pingora.usage import UsageError

TUNNEL_TIMEOUT = 'pingora_failures_total{reason="tunnel_timeout"}'


class Logging(ForwardProxy):
    """Remembers how its sessions ended."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.ended = []

    def logging(self, session, error, ctx):
        status = session.response.status
        self.ended.append((session.request.method, session.request.target, status, error and error.reason))


def hang_up(connection):
    """Reset the connection when something came."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def connect_head(target, extra=b""):
    return b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (target.encode(), target.encode(), extra)


def opened(proxy, target, early=b"", extra=b""):
    """Ask for a tunnel; the socket behind the head of the answer, and that head."""
    client = proxy.connect(20)
    client.sendall(connect_head(target, extra) + early)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = client.recv(1)
        assert more, head
        head += more
    return client, head


def tunnel(proxy, target, early=b""):
    client, head = opened(proxy, target, early)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    return client


def refusal(proxy, target, extra=b""):
    """The status and the last line of an answer that opens no tunnel, and ends the connection."""
    with proxy.connect(20) as client:
        client.sendall(connect_head(target, extra) + GET)
        answer = read_all(client)
    assert answer.count(b"HTTP/1.1 ") == 1  # what followed was no request
    status, text = answer[9:12].decode(), answer.rstrip().rpartition(b"\n")[2].decode()
    return int(status), text.removeprefix(f"{status} ")


# -- through the tunnel


def test_bytes_go_both_ways_and_those_behind_the_head_first(proxy_factory, peer_factory):
    origin = peer_factory(echo)
    proxy = Logging([origin.address])
    running = proxy_factory(proxy)
    client, head = opened(running, origin.address, early=b"early ")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length" not in head
    assert b"\r\nTransfer-Encoding" not in head
    assert b"\r\nConnection" not in head
    with client:
        client.sendall(b"late")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"early late"
    wait_until(lambda: proxy.ended)
    assert proxy.ended == [("CONNECT", origin.address, 200, None)]
    assert running.serving.counters["pingora_requests_total"] == 1


def test_a_server_that_speaks_first_is_heard(proxy_factory, peer_factory):
    origin = peer_factory(lambda connection: (connection.sendall(b"220 hello\r\n"), echo(connection)))

    class Slow(ForwardProxy):
        async def connected_to_upstream(self, session, peer, reused, ctx):
            await asyncio.sleep(0.05)

    for kind in (ForwardProxy, Slow):
        with tunnel(proxy_factory(kind([origin.address])), origin.address) as client:
            assert client.recv(100) == b"220 hello\r\n"


def test_each_side_ends_on_its_own(proxy_factory, peer_factory):
    got = []

    def script(connection):
        connection.sendall(b"done")
        connection.shutdown(socket.SHUT_WR)
        got.append(read_all(connection))

    origin = peer_factory(script)
    with tunnel(proxy_factory(ForwardProxy([origin.address])), origin.address) as client:
        assert read_all(client) == b"done"
        client.sendall(b"still here")
    wait_until(lambda: got)
    assert got == [b"still here"]


def test_a_reset_is_passed_on(proxy_factory, peer_factory):
    origin = peer_factory(hang_up)
    client = tunnel(proxy_factory(ForwardProxy([origin.address])), origin.address, early=b"x")
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_reset_behind_an_end_is_passed_on_to_a_stream(proxy_factory, peer_factory):
    has_ended = threading.Event()

    def end_and_hang_up(connection):
        connection.shutdown(socket.SHUT_WR)
        assert has_ended.wait(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    origin = peer_factory(end_and_hang_up)
    with FrameClient(proxy_factory(ForwardProxy([origin.address]))) as client:
        client.send(client.head([(":method", "CONNECT"), (":authority", origin.address)], end=False))
        assert client.until(lambda frame: isinstance(frame, DataFrame) and "END_STREAM" in frame.flags)
        has_ended.set()
        assert client.until(lambda frame: isinstance(frame, RstStreamFrame))


def test_large_transfers_are_whole_and_a_slow_reader_holds_the_other_side_up(proxy_factory, peer_factory):
    sent = []

    def script(connection):
        for _ in range(256):
            connection.sendall(b"x" * 65536)
            sent.append(65536)

    origin = peer_factory(script)
    with tunnel(proxy_factory(ForwardProxy([origin.address])), origin.address) as client:
        wait_until(lambda: sent)
        assert len(read_all(client)) == 256 * 65536


def test_a_tunnel_in_which_nothing_moves_is_cut(proxy_factory, peer_factory, caplog):
    origin = peer_factory(echo)
    proxy = proxy_factory(ForwardProxy([origin.address]), Limits(tunnel_timeout=0.1))
    client = tunnel(proxy, origin.address)
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
    assert proxy.serving.counters[TUNNEL_TIMEOUT] == 1
    wait_until(lambda: "tunnel_timeout (idle)" in caplog.text)


def test_a_tunnel_that_lasts_too_long_is_cut_though_bytes_move(proxy_factory, peer_factory, caplog):
    origin = peer_factory(echo)
    proxy = Logging([origin.address])
    client = tunnel(proxy_factory(proxy, Limits(tunnel_total_timeout=0.3)), origin.address)
    with client, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while True:
            client.sendall(b"x")
            client.recv(1)
    wait_until(lambda: proxy.ended)
    assert proxy.ended[0][2:] == (200, "tunnel_timeout")
    wait_until(lambda: "tunnel_timeout (open for tunnel_total_timeout)" in caplog.text)
    assert "idle" not in caplog.text


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reaches_an_origin_over_tls(proxy_factory, tmp_path):
    ca = Authority()
    issued = ca.issue("localhost")
    with TlsOrigin(ca.server_context(issued)) as origin:
        target = f"localhost:{origin.port}"
        proxy = proxy_factory(ForwardProxy([target]))
        roots = ca.write(tmp_path, "ca")[0]
        command = ["curl", "-s", "--max-time", "20", "--cacert", roots, "--proxy", f"http://{proxy.address}"]
        done = subprocess.run([*command, f"https://{target}/"], capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, b"up")
        assert origin.seen[0]["sni"] == "localhost"


# -- refusals


def test_without_being_asked_for_there_is_no_tunnel(proxy_factory, peer_factory):
    origin = peer_factory(echo)
    assert refusal(proxy_factory(Forwarding(origin.address)), origin.address) == (405, "connect_refused")
    assert origin.n_connections == 0


def test_a_proxy_that_takes_connect_must_say_where_to():
    class Open(ProxyHttp):
        takes_connect = True

    server = Server()
    server.add_proxy(Open(), "127.0.0.1:0")
    with pytest.raises(UsageError, match=r"Open\.takes_connect: override upstream_peer"):
        server.check()


def test_a_proxy_of_ones_own_decides_by_upstream_peer(proxy_factory, peer_factory):
    origin = peer_factory(echo)

    class Own(ProxyHttp):
        takes_connect = True

        def upstream_peer(self, session, ctx):
            if session.request.target != "backend:22":
                return Response(403, {}, b"no\n")
            return HttpPeer(origin.address)

    proxy = proxy_factory(Own())
    assert refusal(proxy, "other:22") == (403, "no")
    with tunnel(proxy, "backend:22", early=b"hello") as client:
        assert client.recv(5) == b"hello"


@pytest.mark.parametrize(
    ("allowed", "target"),
    [
        ([], "127.0.0.1:PORT"),
        (["127.0.0.1:1"], "127.0.0.1:PORT"),
        (["127.0.0.2:PORT"], "127.0.0.1:PORT"),
        (["*:PORT"], "127.0.0.1:PORT"),
        (["*:PORT"], "localhost:PORT"),
        (["*:PORT"], "[::1]:PORT"),
        (["*:PORT"], "[::ffff:127.0.0.1]:PORT"),
        (["*:PORT"], "127.1:PORT"),
        (["*.localhost:PORT"], "a.localhost:PORT"),
        (["localhost:PORT"], "127.0.0.1:PORT"),
        (["10.0.0.0/8:PORT"], "localhost:PORT"),
    ],
)
def test_what_is_not_allowed_is_403_and_not_connected_to(proxy_factory, peer_factory, allowed, target):
    origin = peer_factory(echo)
    allowed = [entry.replace("PORT", str(origin.port)) for entry in allowed]
    proxy = proxy_factory(ForwardProxy(allowed))
    status, text = refusal(proxy, target.replace("PORT", str(origin.port)))
    assert status in (403, 502)  # 502: the name does not resolve on this machine
    assert text in ("this proxy does not go there", "connect_failed")
    assert origin.n_connections == 0


@pytest.mark.parametrize("allowed", ["127.0.0.0/8:1-65535", "127.0.0.1:PORT", "localhost:PORT", "LOCALHOST:PORT"])
def test_what_is_allowed_is_connected_to(proxy_factory, peer_factory, allowed):
    origin = peer_factory(echo)
    host = "LocalHost" if "local" in allowed.lower() else "127.0.0.1"
    proxy = proxy_factory(ForwardProxy([allowed.replace("PORT", str(origin.port))]))
    with tunnel(proxy, f"{host}:{origin.port}", early=b"hello") as client:
        assert client.recv(5) == b"hello"


def test_a_hook_asks_who_the_client_is(proxy_factory, peer_factory):
    origin = peer_factory(echo)

    class Members(ForwardProxy):
        def request_filter(self, session, ctx):
            if session.request.headers.get("proxy-authorization") != "Basic YTpi":
                return Response(407, {"proxy-authenticate": 'Basic realm="proxy"'}, b"who are you?\n")

    proxy = proxy_factory(Members([origin.address]))
    assert refusal(proxy, origin.address) == (407, "who are you?")
    client, head = opened(proxy, origin.address, extra=b"Proxy-Authorization: Basic YTpi\r\n")
    client.close()
    assert head.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("extra", [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_connect_with_a_body_is_400(proxy_factory, extra):
    assert refusal(proxy_factory(ForwardProxy(["127.0.0.1:1"])), "127.0.0.1:1", extra) == (400, "bad_content_length")


def test_a_connect_that_fails_is_502_before_the_200(proxy_factory):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
    proxy = Logging([target, "no-such-name.invalid:443"])
    running = proxy_factory(proxy)
    assert refusal(running, target) == (502, "connect_failed")
    assert refusal(running, "no-such-name.invalid:443") == (502, "connect_failed")
    wait_until(lambda: len(proxy.ended) == 2)
    assert [ended[2:] for ended in proxy.ended] == [(502, "connect_failed")] * 2


def test_a_connect_that_takes_too_long_is_504(proxy_factory):
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):  # its queue is full: the kernel drops what comes
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        proxy = proxy_factory(ForwardProxy([target], connect_timeout=0.2))
        assert refusal(proxy, target) == (504, "connect_timeout")


def test_a_name_that_nobody_answers_for_is_504(proxy_factory):
    class Deaf(ForwardProxy):
        async def lookup(self, host, port):
            await asyncio.get_running_loop().create_future()

    proxy = proxy_factory(Deaf(["a.example:443"], lookup_timeout=0.1))
    assert refusal(proxy, "a.example:443") == (504, "connect_timeout")


def test_the_addresses_of_a_name_are_tried_in_turn(proxy_factory, peer_factory):
    origin = peer_factory(echo)

    class Names(ForwardProxy):
        async def lookup(self, host, port):
            return ["127.0.0.2", "10.0.0.1", "::ffff:127.0.0.1"]

    proxy = proxy_factory(Names([f"127.0.0.0/8:{origin.port}"]))
    with tunnel(proxy, f"a.example:{origin.port}", early=b"hello") as client:
        assert client.recv(5) == b"hello"


# -- HTTP/2


def h2_connect(client, target, stream_id=1):
    client.send(client.head([(":method", "CONNECT"), (":authority", target)], stream_id, end=False))


def test_a_client_of_http2(proxy_factory, peer_factory):
    origin = peer_factory(echo)
    with FrameClient(proxy_factory(ForwardProxy([origin.address]))) as client:
        h2_connect(client, origin.address)
        frames = client.frames()
        head = next(frame for frame in frames if frame.stream_id == 1 and hasattr(frame, "fields"))
        assert dict(head.fields)[":status"] == "200"
        assert "content-length" not in dict(head.fields)
        client.send(DataFrame(1, data=b"hello", flags=["END_STREAM"]))
        data, has_ended = b"", False
        while not has_ended:
            frame = next(frame for frame in frames if isinstance(frame, DataFrame))
            data, has_ended = data + frame.data, "END_STREAM" in frame.flags
        assert data == b"hello"


def test_a_reset_of_the_server_is_a_connect_error(proxy_factory, peer_factory):
    origin = peer_factory(hang_up)
    with FrameClient(proxy_factory(ForwardProxy([origin.address]))) as client:
        h2_connect(client, origin.address)
        client.send(DataFrame(1, data=b"x"))
        assert client.until(lambda frame: isinstance(frame, RstStreamFrame)).error_code == 10


@pytest.mark.parametrize(("target", "status"), [("127.0.0.1:1", 403), ("127.0.0.1", 400), ("PEER", 502)])
def test_refusals_over_http2(proxy_factory, target, status):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"127.0.0.1:{listener.getsockname()[1]}"
    with FrameClient(proxy_factory(ForwardProxy([closed]))) as client:
        h2_connect(client, target.replace("PEER", closed))
        assert client.answer()["status"] == status
        assert client.is_alive()


def test_a_user_in_the_target_is_refused_by_us_or_by_nghttp2(proxy_factory):
    with FrameClient(proxy_factory(ForwardProxy(["127.0.0.1:1"]))) as client:
        h2_connect(client, "user@127.0.0.1:1")
        got = client.answer()
        if got["status"] is None:  # nghttp2 1.68 ends the connection when a message is malformed
            assert got.get("goaway", got["reset"]) == "PROTOCOL_ERROR"
        else:
            assert got["status"] == 400
            assert client.is_alive()


# -- a hook that changes the answer


class Forbids(ForwardProxy):
    def response_filter(self, session, response, ctx):
        response.status = 403


class ForbidsEarlier(ForwardProxy):
    def upstream_response_filter(self, session, response, ctx):
        response.status = 403


@pytest.mark.parametrize("kind", [Forbids, ForbidsEarlier])
def test_an_answer_that_a_hook_makes_a_refusal_opens_no_tunnel(proxy_factory, peer_factory, kind):
    got = []
    origin = peer_factory(lambda connection: got.append(read_all(connection)))
    client, head = opened(proxy_factory(kind([origin.address])), origin.address)
    with client:
        with contextlib.suppress(OSError):  # it may have closed already
            client.sendall(GET)
            client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    wait_until(lambda: got)
    assert got == [b""]
    assert head.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nContent-Length: 0\r\n" in head
    assert b"\r\nConnection: close\r\n" in head
