"""Health checks against origins that die and return, in one process and in an instance with workers."""

import asyncio
import socket
import ssl
import threading

import pytest
from configured import Connection, starting
from conversations import GET, wait_until
from mortal import OK, Mortal
from pki import Authority
from tls_origin import TlsOrigin

from pingora import (
    BalancerService,
    DnsDiscovery,
    Endpoint,
    HealthCheck,
    HttpHealthCheck,
    LoadBalancer,
    PeerOptions,
    ProxyHttp,
    Server,
    TcpHealthCheck,
    UpstreamTls,
)
from pingora.load_balancing.health import told
from pingora.load_balancing.upkeep import Rounds, Upkeep

FAST = {"interval": 0.02, "timeout": 5.0}


@pytest.fixture
def mortal():
    made = []

    def make(answer=OK):
        made.append(Mortal(answer))
        made[-1].live()
        return made[-1]

    yield make
    for one in made:
        one.die()


def checked(addresses, health, **more):
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer(addresses, health=health, **more)
    return proxy


@pytest.mark.parametrize("health", [TcpHealthCheck(**FAST), HttpHealthCheck("/up", **FAST)], ids=["tcp", "http"])
def test_an_origin_that_dies_is_left_out_before_a_request_fails_and_comes_back(proxy_factory, mortal, health):
    first, second = mortal(), mortal()
    proxy = checked([first.address, second.address], health)
    running = proxy_factory(proxy)
    endpoint = proxy.upstreams.endpoints[0]
    first.die()
    wait_until(lambda: not endpoint.is_healthy)
    failed = endpoint.failed
    assert all(running.exchange(GET).endswith(b"ok") for _ in range(6))
    assert endpoint.failed == failed
    first.live()
    wait_until(lambda: endpoint.is_healthy)
    started = endpoint.started
    assert all(running.exchange(GET).endswith(b"ok") for _ in range(6))
    assert endpoint.started == started + 3


def test_if_all_are_unhealthy_the_answer_is_503_at_once(proxy_factory, mortal):
    origin = mortal()
    proxy = checked([origin.address], TcpHealthCheck(**FAST))
    running = proxy_factory(proxy)
    origin.die()
    wait_until(lambda: not proxy.upstreams.endpoints[0].is_healthy)
    assert running.exchange(GET).startswith(b"HTTP/1.1 503")


def test_a_request_is_what_it_was_told_to_be(proxy_factory, mortal):
    origin = mortal()
    health = HttpHealthCheck("/up?x=1", host="app.test", method="HEAD", headers=[("X-Probe", "1")], **FAST)
    proxy_factory(checked([origin.address], health))
    wait_until(lambda: origin.heads)
    lines = origin.heads[0].split(b"\r\n")
    assert lines[0] == b"HEAD /up?x=1 HTTP/1.1"
    assert {b"Host: app.test", b"Connection: close", b"X-Probe: 1", b"User-Agent: pingora-health"} <= set(lines)


ANSWERS = {
    "a status that is wanted": (b"HTTP/1.1 204 No Content\r\n\r\n", None),
    "behind an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 204 No\r\n\r\n", None),
    "another status": (b"HTTP/1.1 503 Busy\r\n\r\n", "status 503"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", "no answer of HTTP/1.1"),
    "HTTP/2": (b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x80", "TcpHealthCheck"),
    "HTTP/2 with a line feed in it": (b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\n", "TcpHealthCheck"),
    "nothing": (b"", "closed without an answer"),
    "a line without end": (b"x" * 100_000, "a line that is too long"),
    "interim answers without end": (b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "too many interim answers"),
}


@pytest.mark.parametrize(("answer", "problem"), ANSWERS.values(), ids=ANSWERS)
def test_what_an_answer_says(mortal, answer, problem):
    origin = mortal(answer)
    health = HttpHealthCheck(statuses=[204])

    async def check():
        await health.check(Endpoint(origin.address))

    if problem is None:
        asyncio.run(check())
    else:
        with pytest.raises((ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)) as caught:
            asyncio.run(check())
        assert problem in told(caught.value)


@pytest.mark.parametrize(
    ("version", "header"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")]
)
def test_an_upstream_of_the_proxy_protocol_hears_that_nobody_is_introduced(proxy_factory, mortal, version, header):
    origin = mortal()
    proxy_factory(checked([origin.address], HttpHealthCheck(**FAST), peer=PeerOptions(proxy_protocol=version)))
    wait_until(lambda: origin.heads)
    assert origin.heads[0].startswith(header)


def test_another_port_can_be_asked(mortal):
    origin = mortal()
    asyncio.run(HttpHealthCheck(port=origin.port).check(Endpoint("127.0.0.1:1")))


def test_a_unix_socket_is_asked(tmp_path):
    async def check():
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            writer.close()

        async with await asyncio.start_unix_server(answer, tmp_path / "a"):
            await HttpHealthCheck().check(Endpoint(f"unix:{tmp_path}/a"))
            await TcpHealthCheck().check(Endpoint(f"unix:{tmp_path}/a"))

    asyncio.run(check())


class TestTls:
    @pytest.fixture
    def authority(self):
        return Authority()

    @pytest.fixture
    def origin(self, authority):
        with TlsOrigin(authority.server_context(authority.issue("app.test"))) as origin:
            yield origin

    def endpoint(self, origin, tls, name="app.test"):
        return Endpoint(origin.address, tls=tls, server_name=name)

    @pytest.mark.parametrize("health", [TcpHealthCheck(), HttpHealthCheck()], ids=["tcp", "http"])
    def test_a_certificate_that_is_right_passes(self, authority, origin, health):
        asyncio.run(health.check(self.endpoint(origin, UpstreamTls(ca=authority.chain))))

    def test_another_authority_in_the_same_file_is_trusted(self, authority, origin, tmp_path):
        file = tmp_path / "ca.pem"
        file.write_bytes(Authority().chain)
        with pytest.raises(ssl.SSLError):
            asyncio.run(TcpHealthCheck().check(self.endpoint(origin, UpstreamTls(ca=file))))
        file.write_bytes(authority.chain)
        asyncio.run(TcpHealthCheck().check(self.endpoint(origin, UpstreamTls(ca=file))))

    def test_the_proxy_protocol_goes_before_tls(self, authority):
        context, header = authority.server_context(authority.issue("127.0.0.1")), b"PROXY UNKNOWN\r\n"
        got = []

        def answer(listener):
            raw, _ = listener.accept()
            got.append(raw.recv(len(header), socket.MSG_WAITALL))
            with context.wrap_socket(raw, server_side=True) as client:
                client.recv(4096)
                client.sendall(OK)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=answer, args=[listener])
            thread.start()
            address = f"https://127.0.0.1:{listener.getsockname()[1]}"
            tls, options = UpstreamTls(ca=authority.chain), PeerOptions(proxy_protocol="v1")
            balancer = LoadBalancer([address], tls=tls, peer=options)
            asyncio.run(HttpHealthCheck().check(balancer.endpoints[0]))
            thread.join()
        assert got == [header]

    def test_one_that_is_not_verified_passes(self, origin):
        asyncio.run(TcpHealthCheck().check(self.endpoint(origin, UpstreamTls(verify=False))))

    @pytest.mark.parametrize(
        ("name", "is_known", "reason"),
        [("other.test", True, "certificate: Hostname mismatch"), ("app.test", False, "certificate: ")],
        ids=["another name", "another authority"],
    )
    def test_a_wrong_certificate_fails_with_the_reason(self, authority, origin, name, is_known, reason):
        tls = UpstreamTls(ca=authority.chain if is_known else Authority().chain)
        with pytest.raises(ssl.SSLError) as caught:
            asyncio.run(TcpHealthCheck().check(self.endpoint(origin, tls, name)))
        assert told(caught.value).startswith(reason)


class Told(HealthCheck):
    """Says what it is told to."""

    def __init__(self, results, **settings):
        super().__init__(**settings)
        self.results = list(results)
        self.changes = []

    async def check(self, endpoint):
        if not self.results.pop(0):
            raise OSError("no")

    def health_changed(self, endpoint, is_healthy):
        self.changes.append(is_healthy)


@pytest.mark.parametrize(
    ("results", "success", "failure", "expected"),
    [
        ("+-+-+-", 1, 1, "+-+-+-"),
        ("-+-+--", 1, 2, "+++++-"),
        ("---+-++", 2, 3, "++----+"),
        ("-++-+--", 2, 1, "--+-----"[:7]),
    ],
)
def test_health_changes_only_after_as_many_in_a_row(results, success, failure, expected):
    health = Told([one == "+" for one in results], consecutive_success=success, consecutive_failure=failure)
    balancer = LoadBalancer(["127.0.0.1:1"], health=health)
    seen = ""

    async def run():
        nonlocal seen
        rounds = Rounds(balancer, health)
        for _ in results:
            await rounds.run()
            seen += "+" if balancer.endpoints[0].is_healthy else "-"

    asyncio.run(run())
    assert seen == expected


def test_a_check_that_takes_too_long_is_a_failure():
    class Hangs(HealthCheck):
        async def check(self, endpoint):
            await asyncio.Event().wait()

    balancer = LoadBalancer(["127.0.0.1:1", "127.0.0.1:2"], health=Hangs(timeout=0.01))
    asyncio.run(Rounds(balancer, balancer.health).run())
    assert [endpoint.is_healthy for endpoint in balancer.endpoints] == [False, False]


def test_no_more_than_so_many_are_asked_at_a_time():
    class Counts(HealthCheck):
        now = most = 0

        async def check(self, endpoint):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.now -= 1

    health = Counts(parallel=3)
    balancer = LoadBalancer([f"127.0.0.1:{port}" for port in range(1, 21)], health=health)
    asyncio.run(Rounds(balancer, health).run())
    assert health.most == 3


def test_the_checks_of_a_balancer_that_a_hook_asks_run_as_a_service(mortal):
    origin = mortal()
    changes = asyncio.Queue()

    class Tells(TcpHealthCheck):
        def health_changed(self, endpoint, is_healthy):
            changes.put_nowait(is_healthy)

    pool = LoadBalancer([origin.address], health=Tells(**FAST))
    server = Server()
    server.add_service(BalancerService(pool))

    async def run():
        upkeep = Upkeep()
        await upkeep.start(server)
        origin.die()
        assert await changes.get() is False
        origin.live()
        assert await changes.get() is True
        upkeep.stop()

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TcpHealthCheck(interval=0), "interval: expected"),
        (lambda: TcpHealthCheck(timeout=-1), "timeout: expected"),
        (lambda: TcpHealthCheck(consecutive_failure=0), "consecutive_failure: expected"),
        (lambda: HttpHealthCheck("up"), "path: expected"),
        (lambda: HttpHealthCheck("/a b"), "path: expected"),
        (lambda: HttpHealthCheck(statuses=[]), "statuses: expected"),
        (lambda: HttpHealthCheck(port=0), "port: expected"),
        (lambda: HttpHealthCheck(host="a\r\nb"), "visible"),
        (lambda: HttpHealthCheck(headers=[("a", "b\r\nc: d")]), "visible"),
        (lambda: DnsDiscovery([]), "endpoints: expected"),
        (lambda: DnsDiscovery(["a:1"], interval=0), "interval: expected"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def write(file, tmp_path, origins, health):
    addresses = ", ".join(f'"{origin.address}"' for origin in origins)
    file.write_text(
        f'listeners = ["unix:{tmp_path}/a"]\nworkers = 2\n[upstreams]\nendpoints = [{addresses}]\n'
        f"passive.failures = 0\n{health}\n"
    )


HEALTH = '[upstreams.health]\npath = "/up"\ninterval = "20ms"\ntimeout = "5s"\n'


def test_one_process_checks_for_all_workers_and_a_reload_changes_how(tmp_path, mortal):
    dying, steady = mortal(), mortal(OK[:-2] + b"on")
    file = tmp_path / "p.toml"
    write(file, tmp_path, [dying, steady], HEALTH)

    def answers():
        return {Connection(tmp_path / "a").get() for _ in range(12)}

    with starting(tmp_path) as start:
        running = start(file)
        wait_until(lambda: any(b"/up" in head for head in dying.heads))
        assert answers() == {b"ok", b"on"}
        dying.die()
        running.expect("is unhealthy")
        wait_until(lambda: answers() == {b"on"})
        dying.live()
        running.expect("is healthy")
        wait_until(lambda: answers() == {b"ok", b"on"})
        write(file, tmp_path, [dying, steady], HEALTH.replace("/up", "/other"))
        running.reload()
        running.expect("has taken over in place")
        wait_until(lambda: any(b"/other" in head for head in dying.heads))
        dying.die()
        running.expect("is unhealthy")
        wait_until(lambda: answers() == {b"on"})
        write(file, tmp_path, [dying, steady], "")
        running.reload()
        running.expect("has taken over in place")
        dying.live()
        wait_until(lambda: answers() == {b"ok", b"on"})  # nobody checks, so nobody is unhealthy
        running.stop()


def test_health_that_a_reload_brings_is_checked(tmp_path, mortal):
    dying, steady = mortal(), mortal(OK[:-2] + b"on")
    file = tmp_path / "p.toml"
    write(file, tmp_path, [dying, steady], "")
    with starting(tmp_path) as start:
        running = start(file)
        assert Connection(tmp_path / "a").get() in (b"ok", b"on")
        write(file, tmp_path, [dying, steady], HEALTH)
        running.reload()
        running.expect("has taken over in place")
        dying.die()
        running.expect("is unhealthy")
        wait_until(lambda: {Connection(tmp_path / "a").get() for _ in range(8)} == {b"on"})
        running.stop()
