"""The proxies that are compared: how each is configured and started."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .client import NotServed, Protocol, wait_until_served
from .origin import Origin, run_as_owner
from .processes import Started, free_port, workers

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILT = ROOT / "build" / "side_by_side"
RELAY = BUILT / "relay"
CRATE = ROOT / "benches" / "peers" / "pingora"
GATEWAY_PORT = 8080  # fixed in examples/gateway.py
GATEWAY_HEADERS = ("x-api-key: secret",)

NGINX = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {work}/{name}.pid;
error_log stderr warn;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {work}/{name}-body;
    proxy_temp_path {work}/{name}-proxy;
    keepalive_requests 1000000000;
    {tuning}
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096{listen};
        {tls}
        location / {{
            {forward}
        }}
    }}
}}
"""
NGINX_TO_HTTP1 = 'proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";'
# nginx 1.22 speaks HTTP/2 to upstreams of gRPC only, one request at a time on a connection; others take it as well.
NGINX_TO_H2C = "grpc_pass grpc://origin;"
NGINX_TUNING = (
    "proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0; "
    "tcp_nodelay on;"
)

HAPROXY = """
global
    nbthread 1
    maxconn 4096
{tuning}
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    http-reuse always
{options}
listen proxy
    bind 127.0.0.1:{port} backlog 4096{bind}
    server origin 127.0.0.1:{origin}{speak}
"""


@dataclass
class Place:
    """What a peer needs to know to start: where to write, where to forward, which port to serve on."""

    work: Path
    origin_port: int
    h2c_port: int  # of the origin, for HTTP/2
    port: int


@dataclass(frozen=True)
class Peer:
    """A proxy under test. `prepare` writes its files and returns the command; `env` adds to the environment."""

    name: str
    prepare: Callable[[Place], list[str]]
    port: int | None = None
    env: Callable[[Place], Mapping[str, str]] = lambda place: {}
    title: str = ""  # what the report calls it where the name is shared
    protocol: Protocol = Protocol.HTTP1  # that clients speak to it

    def __str__(self) -> str:
        return self.title or self.name


@dataclass
class Running:
    """A started peer. Counted are the processes that carry load: all below the root, or the root if it is alone."""

    peer: Peer
    process: Started
    port: int
    workers: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.peer.name

    @property
    def protocol(self) -> Protocol:
        return self.peer.protocol

    @property
    def parent(self) -> int | None:
        """The supervising process, which carries no load; None if there is none."""
        return None if self.process.pid in self.workers else self.process.pid

    def is_changed(self) -> bool:
        """True if the processes are no longer the counted ones; from then on the present ones are counted."""
        before, self.workers = self.workers, workers(self.process.pid)
        return before != self.workers

    def stop(self) -> None:
        self.process.stop()


def start(peer: Peer, work: Path, origin: Origin, cpu: int | str) -> Running:
    """Start and wait for the first answer; NotServed says why there was none. Nothing is left running then."""
    place = Place(work, origin.port, origin.h2c_port, peer.port or free_port())
    try:
        command = peer.prepare(place)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotServed(str(error)) from error
    process = Started(command, cpu=cpu, log=work / f"{peer.name}.log", env=peer.env(place))
    try:
        answer = wait_until_served(process, place.port, "/small", GATEWAY_HEADERS, peer.protocol)
        if answer.status != 200:
            raise NotServed(f"answered {answer.status}")
        return Running(peer, process, place.port, workers(process.pid))
    except BaseException:
        process.stop()
        raise


def build_relay() -> None:
    """Compile the relay unless it is newer than its source."""
    source = HERE / "relay.c"
    if RELAY.exists() and RELAY.stat().st_mtime > source.stat().st_mtime:
        return
    RELAY.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(RELAY), str(source)], check=True)


def certificate(work: Path) -> tuple[Path, Path]:
    """Give the certificate and the key that all proxies show: ECDSA, as is usual today."""
    chain, key = work / "cert.pem", work / "key.pem"
    if not chain.exists():
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
        command = ["openssl", "req", "-x509", *curve, "-days", "30", "-keyout", str(key), "-out", str(chain)]
        subprocess.run(command, check=True, capture_output=True)
    return chain, key


def relay(*options: str) -> Callable[[Place], list[str]]:
    def prepare(place: Place) -> list[str]:
        build_relay()
        return [str(RELAY), *options, str(place.port), str(place.origin_port)]

    return prepare


def nginx(
    name: str, tuning: str = "", protocol: Protocol = Protocol.HTTP1, to_h2c: bool = False
) -> Callable[[Place], list[str]]:
    def prepare(place: Place) -> list[str]:
        chain, key = certificate(place.work)
        config = place.work / f"{name}.conf"
        config.write_text(
            NGINX.format(
                name=name,
                work=place.work,
                user=run_as_owner(place.work),
                tuning=tuning,
                origin=place.h2c_port if to_h2c else place.origin_port,
                port=place.port,
                forward=NGINX_TO_H2C if to_h2c else NGINX_TO_HTTP1,
                listen={Protocol.HTTP1: "", Protocol.TLS: " ssl", Protocol.H2C: " http2"}[protocol],
                tls=f"ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {chain}; ssl_certificate_key {key};"
                if protocol is Protocol.TLS
                else "",
            )
        )
        return ["nginx", "-e", "stderr", "-c", str(config)]

    return prepare


def haproxy(
    name: str, tuning: str = "", options: str = "", protocol: Protocol = Protocol.HTTP1, to_h2c: bool = False
) -> Callable[[Place], list[str]]:
    def prepare(place: Place) -> list[str]:
        chain, key = certificate(place.work)
        both = place.work / "both.pem"
        both.write_bytes(chain.read_bytes() + key.read_bytes())
        config = place.work / f"{name}.conf"
        config.write_text(
            HAPROXY.format(
                tuning=tuning,
                options=options,
                origin=place.h2c_port if to_h2c else place.origin_port,
                speak=" proto h2" if to_h2c else "",
                port=place.port,
                bind={Protocol.HTTP1: "", Protocol.TLS: f" ssl crt {both}", Protocol.H2C: " proto h2"}[protocol],
            )
        )
        return ["haproxy", "-db", "-f", str(config)]

    return prepare


def pingora_rs(protocol: Protocol = Protocol.HTTP1, to_h2c: bool = False) -> Callable[[Place], list[str]]:
    """Run the minimal proxy on the framework in Rust, with the OpenSSL of the system; cargo builds it if need be."""

    def prepare(place: Place) -> list[str]:
        if shutil.which("cargo") is None:
            raise OSError("cargo is not installed")
        target = BUILT / "pingora-rs"
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(target)]
        subprocess.run(command, check=True, cwd=CRATE, env={**os.environ, "OPENSSL_NO_VENDOR": "1"})
        peer = [str(target / "release" / "peer"), str(place.port)]
        if to_h2c:
            return [*peer, str(place.h2c_port), "h2c"]
        files = [str(path) for path in certificate(place.work)] if protocol is Protocol.TLS else []
        return [*peer, str(place.origin_port), *files]

    return prepare


def pingora(*arguments: str, workers: int = 1) -> Callable[[Place], list[str]]:
    """Run the command line; `{port}`, `{origin}`, `{h2c}`, `{cert}` and `{key}` in an argument are replaced."""

    def prepare(place: Place) -> list[str]:
        chain, key = certificate(place.work)
        values = {"port": place.port, "origin": place.origin_port, "h2c": place.h2c_port}
        values |= {"cert": chain, "key": key}
        filled = [argument.format(**values) for argument in arguments]
        return [sys.executable, "-m", "pingora", "run", *filled, "--workers", str(workers), "--access-log", "off"]

    return prepare


def pingora_env(place: Place) -> dict[str, str]:
    """The package of this checkout goes before an installed one, and one that PYTHONPATH names before it.

    The addresses are for hooks_two.py.
    """
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT / "src")]))
    return {
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "",  # as an installed package has it, bytecode is there from the second start on
        "BENCH_LISTEN": f"127.0.0.1:{place.port}",
        "BENCH_ORIGIN": f"127.0.0.1:{place.origin_port}",
    }


PEERS = {
    peer.name: peer
    for peer in (
        Peer("relay", relay()),
        Peer("relay-splice", relay("-s")),
        Peer("nginx", nginx("nginx")),
        Peer("nginx-tuned", nginx("nginx-tuned", NGINX_TUNING)),
        Peer("haproxy", haproxy("haproxy")),
        Peer("haproxy-tuned", haproxy("haproxy-tuned", "    tune.bufsize 65536", "    option splice-auto")),
        Peer("pingora-rs", pingora_rs()),
        Peer(
            "pingora",
            pingora("--from", "127.0.0.1:{port}", "--to", "http://127.0.0.1:{origin}"),
            env=pingora_env,
        ),
    )
}
PINGORA_HOOKS = Peer("pingora", pingora(str(HERE / "hooks_two.py")), env=pingora_env, title="pingora (two hooks)")
PINGORA_GATEWAY = Peer(
    "pingora",
    pingora(str(ROOT / "examples" / "gateway.py")),
    port=GATEWAY_PORT,
    env=pingora_env,
    title="pingora (gateway.py)",
)
TLS_PEERS = {
    "nginx": Peer("nginx", nginx("nginx-tls", protocol=Protocol.TLS), protocol=Protocol.TLS),
    "haproxy": Peer("haproxy", haproxy("haproxy-tls", protocol=Protocol.TLS), protocol=Protocol.TLS),
    "pingora-rs": Peer("pingora-rs", pingora_rs(Protocol.TLS), protocol=Protocol.TLS),
    "pingora": Peer(
        "pingora",
        pingora("--from", "tls://127.0.0.1:{port}?cert={cert}&key={key}", "--to", "http://127.0.0.1:{origin}"),
        env=pingora_env,
        protocol=Protocol.TLS,
    ),
}
H2_PEERS = {
    "nginx": Peer("nginx", nginx("nginx-h2", protocol=Protocol.H2C), protocol=Protocol.H2C),
    "haproxy": Peer("haproxy", haproxy("haproxy-h2", protocol=Protocol.H2C), protocol=Protocol.H2C),
    "pingora-rs": Peer("pingora-rs", pingora_rs(Protocol.H2C), protocol=Protocol.H2C),
    "pingora": Peer(
        "pingora",
        pingora("--from", "127.0.0.1:{port}", "--to", "http://127.0.0.1:{origin}"),
        env=pingora_env,
        protocol=Protocol.H2C,
    ),
}
TO_H2C = pingora("--from", "127.0.0.1:{port}", "--to", "h2c://127.0.0.1:{h2c}")
TO_H2C_PEERS = {
    "nginx": Peer("nginx", nginx("nginx-to-h2c", to_h2c=True)),
    "haproxy": Peer("haproxy", haproxy("haproxy-to-h2c", to_h2c=True)),
    "pingora-rs": Peer("pingora-rs", pingora_rs(to_h2c=True)),
    "pingora": Peer("pingora", TO_H2C, env=pingora_env),
}
H2_TO_H2C_PEERS = {
    "nginx": Peer("nginx", nginx("nginx-h2-to-h2c", protocol=Protocol.H2C, to_h2c=True), protocol=Protocol.H2C),
    "haproxy": Peer("haproxy", haproxy("haproxy-h2-to-h2c", protocol=Protocol.H2C, to_h2c=True), protocol=Protocol.H2C),
    "pingora-rs": Peer("pingora-rs", pingora_rs(Protocol.H2C, to_h2c=True), protocol=Protocol.H2C),
    "pingora": Peer("pingora", TO_H2C, env=pingora_env, protocol=Protocol.H2C),
}
DEFAULT_PEERS = (
    *("relay", "nginx", "nginx-tuned", "haproxy", "haproxy-tuned", "pingora"),
    *(("pingora-rs",) if shutil.which("cargo") else ()),
)
