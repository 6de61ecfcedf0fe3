"""Ketama: the ring against a slow reference and against nginx itself, movement, spread, and walking on."""

import grp
import os
import pwd
import shutil
import socket
import subprocess
import zlib
from collections import Counter

import pytest

from pingora_c.upstream.balancer import Balancer, NoUpstream
from pingora_c.upstream.endpoint import Endpoint
from pingora_c.upstream.select.ketama import Ketama

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")


def balance(*names):
    """A balancer over `names`, each a text or a pair of text and weight."""
    pairs = [name if isinstance(name, tuple) else (name, 1) for name in names]
    return Balancer([Endpoint(text, weight) for text, weight in pairs], Ketama())


def addresses(n):
    return [f"10.0.{i}.{i * 7 % 256}:{8000 + i}" for i in range(n)]


def keys(n):
    return [f"user-{i}/{i * 2654435761 % 1000003}" for i in range(n)]


def slow_ring(texts):
    """(point, slot) as the issue of nginx describes it; `texts` are (HOST, PORT, weight)."""
    points = {}
    for slot, (host, port, weight) in enumerate(texts):
        previous = 0
        for _ in range(160 * weight):
            previous = zlib.crc32(host + b"\0" + port + previous.to_bytes(4, "little"))
            points.setdefault(previous, slot)
    return sorted(points.items())


TEXTS = {
    "IPv4": ("127.0.0.1:80", b"127.0.0.1", b"80"),
    "IPv6 as written": ("[0:0::1]:8080", b"[0:0::1]", b"8080"),
    "Unix path": ("unix:/run/app.sock", b"/run/app.sock", b""),
    "Unix path with a colon": ("unix:/run/app:1", b"/run/app:1", b""),
}


@pytest.mark.parametrize("weight", [1, 3])
@pytest.mark.parametrize(("text", "host", "port"), TEXTS.values(), ids=TEXTS)
def test_points_are_the_chain_of_checksums(text, host, port, weight):
    assert balance((text, weight)).selection.points() == slow_ring([(host, port, weight)])


NAMES = {
    "name": ("app-1:80", b"app-1", b"80"),
    "name without a port": ("app-1", b"app-1", b""),
    "empty port": ("app-1:", b"app-1", b""),
    "name that is not ASCII": ("äpp:80", "äpp".encode(), b"80"),
    "Unix in capitals": ("UNIX:/run/a", b"/run/a", b""),
}


@pytest.mark.parametrize(("name", "host", "port"), NAMES.values(), ids=NAMES)
def test_name_decides_the_place_not_the_address(name, host, port):
    ring = Balancer([Endpoint("127.0.0.1:9", name=name)], Ketama()).selection.points()
    assert ring == slow_ring([(host, port, 1)])


def test_addresses_that_share_a_name_are_placed_by_address():
    shared = Balancer([Endpoint(f"10.0.0.{i}:80", name="app:80") for i in (1, 2)], Ketama())
    assert shared.selection.points() == balance("10.0.0.1:80", "10.0.0.2:80").selection.points()


def test_key_belongs_to_the_first_point_at_or_after_its_checksum():
    balancer = balance(*addresses(5))
    ring = balancer.selection.points()
    for key in keys(500):
        at = zlib.crc32(key.encode())
        slot = next((slot for point, slot in ring if point >= at), ring[0][1])
        assert balancer.select(key).slot == slot


def test_key_on_a_point_and_past_the_last_point():
    balancer = balance(*addresses(3))
    ring = dict(balancer.selection.points())
    by_checksum = {zlib.crc32(b"%d" % i): b"%d" % i for i in range(200_000)}
    past_last = max(by_checksum)
    assert past_last > max(ring), "no key of the table lies behind the last point"
    assert balancer.select(by_checksum[past_last]).slot == ring[min(ring)]


def test_key_may_be_bytes_or_text_or_missing():
    balancer = balance(*addresses(5))
    assert balancer.select("schlüssel") is balancer.select("schlüssel".encode())
    assert balancer.select() is balancer.select(b"")


@pytest.mark.parametrize("n", [2, 5, 10])
def test_losing_an_endpoint_moves_only_its_own_keys(n):
    balancer = balance(*addresses(n))
    before = {key: balancer.select(key) for key in keys(4000)}
    lost = balancer.endpoints[n // 2]
    balancer.update([endpoint for endpoint in balancer.endpoints if endpoint is not lost])
    moved = [key for key, endpoint in before.items() if balancer.select(key) is not endpoint]
    assert all(before[key] is lost for key in moved)
    assert len(moved) / len(before) <= 1 / n + 0.05


def test_order_of_the_set_does_not_matter():
    one, other = balance(*addresses(7)), balance(*reversed(addresses(7)))
    assert all(one.select(key).address == other.select(key).address for key in keys(500))


def test_endpoint_that_comes_back_gets_its_keys_back():
    balancer = balance(*addresses(5))
    before = [balancer.select(key) for key in keys(500)]
    balancer.set_enabled(balancer.endpoints[2].address, False)
    assert balancer.endpoints[2] not in {balancer.select(key) for key in keys(500)}
    balancer.set_enabled(balancer.endpoints[2].address, True)
    assert [balancer.select(key) for key in keys(500)] == before


def test_keys_of_a_disabled_endpoint_go_where_they_would_without_it():
    disabled, removed = balance(*addresses(6)), balance(*addresses(6))
    lost = disabled.endpoints[3]
    lost.is_healthy = False
    removed.update([endpoint for endpoint in removed.endpoints if endpoint.address != lost.address])
    assert all(disabled.select(key).address == removed.select(key).address for key in keys(1000))


@pytest.mark.parametrize("weights", [(1,) * 8, (1, 2, 3, 4), (10, 1, 1)])
def test_spread_follows_the_weights(weights):
    balancer = balance(*zip(addresses(len(weights)), weights, strict=True))
    counts = Counter(balancer.select(key).slot for key in keys(8000))
    for slot, weight in enumerate(weights):
        fair = 8000 * weight / sum(weights)
        # 160 points per unit of weight: a share has a spread of about 1/sqrt(160 * weight), 8 % at weight 1.
        assert 0.7 * fair <= counts[slot] <= 1.3 * fair


def test_what_was_tried_is_walked_past_until_nothing_is_left():
    balancer = balance(*addresses(4))
    tried, seen = 0, []
    for _ in range(4):
        endpoint = balancer.selection.pick(b"key", tried)
        seen.append(endpoint.slot)
        tried |= 1 << endpoint.slot
    assert sorted(seen) == [0, 1, 2, 3]
    assert balancer.selection.pick(b"key", tried) is None


def test_set_that_is_all_down_has_no_upstream():
    balancer = balance(*addresses(3))
    for endpoint in balancer.endpoints:
        endpoint.is_enabled = False
    with pytest.raises(NoUpstream):
        balancer.select("key")


def test_ring_that_would_be_too_large_is_refused_and_the_old_one_stays():
    balancer = balance(*addresses(2))
    before = balancer.selection.points()
    with pytest.raises(ValueError, match="at most 26214"):
        balancer.update([Endpoint("127.0.0.1:1", 26_215)])
    assert balancer.selection.points() == before


def test_ring_before_the_first_set_has_no_upstream():
    assert Ketama().pick(b"key", 0) is None


class Nginx:
    """nginx with upstreams that hash `$arg_k` over servers which answer their own name.

    It inherits listening sockets made here, so that no port is guessed and no start has to be waited for.
    """

    # Weights, and a server marked `down`: nginx leaves its points on the ring and walks on, as we do.
    UPSTREAMS = {"equal": ((1,) * 6, None), "weighted": ((1, 5, 2, 1, 3, 1), None), "down": ((1,) * 6, 2)}

    def __init__(self, folder):
        self.front = socket.socket(socket.AF_UNIX)
        self.front.bind(str(folder / "front"))
        servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
        for name in ("a", "b"):
            server = socket.socket(socket.AF_UNIX)
            server.bind(str(folder / name))
            servers.append(server)
        self.sockets = [self.front, *servers]
        for listener in self.sockets:
            listener.listen(511)
        self.names = [
            f"127.0.0.1:{s.getsockname()[1]}" if s.family == socket.AF_INET else f"unix:{s.getsockname()}"
            for s in servers
        ]
        (folder / "nginx.conf").write_text(self.configuration(folder))
        fds = [listener.fileno() for listener in self.sockets]
        self.log = (folder / "error.log").open("w+")
        self.process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", "nginx.conf"],
            env={"NGINX": "".join(f"{fd};" for fd in fds)},
            pass_fds=fds,
            stderr=self.log,
        )

    def configuration(self, folder):
        user = f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"  # may enter `folder`
        lines = [f"user {user}; worker_processes 1; pid {folder}/pid; error_log stderr; events {{}}"]
        lines += ["http { access_log off; keepalive_requests 100000;"]
        lines += [f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
        for upstream, (weights, down) in self.UPSTREAMS.items():
            lines.append(f"upstream {upstream} {{ hash $arg_k consistent;")
            for i, name in enumerate(self.names):
                lines.append(f"server {name} weight={weights[i]} {'down' if i == down else ''};")
            lines.append("}")
        for name in self.names:
            lines.append(f'server {{ listen {name}; return 200 "{name}"; }}')
        lines.append(f"server {{ listen unix:{folder}/front;")
        lines += [f"location /{upstream} {{ proxy_pass http://{upstream}; }}" for upstream in self.UPSTREAMS]
        return "\n".join([*lines, "} }"])

    def ask(self, upstream, keys):
        """The server's name for each key, over one pipelined connection."""
        requests = "".join(f"GET /{upstream}?k={key} HTTP/1.1\r\nHost: x\r\n\r\n" for key in keys[:-1])
        requests += f"GET /{upstream}?k={keys[-1]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(self.front.getsockname())
            client.sendall(requests.encode())
            with client.makefile("rb") as answers:
                return [self.read_answer(answers) for _ in keys]

    def read_answer(self, answers):
        status = answers.readline()
        if not status.startswith(b"HTTP/1.1 200 "):
            self.log.seek(0)
            pytest.fail(f"nginx answered {status!r}: {self.log.read()}")
        size = 0
        while (line := answers.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        return answers.read(size).decode()

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        self.log.close()
        for listener in self.sockets:
            listener.close()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    nginx = Nginx(tmp_path_factory.mktemp("nginx"))
    yield nginx
    nginx.close()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("upstream", Nginx.UPSTREAMS)
def test_nginx_chooses_the_same_endpoint_for_2000_keys(nginx, upstream):
    weights, down = Nginx.UPSTREAMS[upstream]
    balancer = balance(*zip(nginx.names, weights, strict=True))
    if down is not None:
        balancer.endpoints[down].is_enabled = False
    asked = ["0", "%20", "a/b:c", *keys(1997)]  # an empty key makes nginx go round robin
    assert nginx.ask(upstream, asked) == [balancer.select(key).name for key in asked]
