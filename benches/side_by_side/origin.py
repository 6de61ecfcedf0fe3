"""The origin that every proxy forwards to: one nginx worker with bodies of fixed size, over HTTP/1.1 and HTTP/2."""

import re
from dataclasses import dataclass
from pathlib import Path

from .client import ask_once, wait_until_served
from .processes import Cpus, Started, free_ports

SMALL_BODY = "A small answer: one hundred bytes of text, of which the greater part is said only to fill the line.\n"
# One worker serves downloads and small answers: in short turns, or these wait for those and the proxy is not to blame.
SENDFILE_CHUNK = "256k"
FILES = {"/64k": 64 * 1024, "/1m": 1024 * 1024, "/1g": 1024**3}
GATEWAY_PORTS = (9001, 9002)  # fixed in examples/gateway.py

CONFIG = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {work}/origin.pid;
error_log stderr warn;
{user}
events {{ worker_connections 16384; }}
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path {work}/origin-body;
    sendfile on;
    sendfile_max_chunk {chunk};
    open_file_cache max=16;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    server {{
{listens}
        root {work}/files;
        location = /small {{ return 200 "{small}"; }}
        location = /accepted {{ stub_status; }}
    }}
}}
"""


@dataclass(frozen=True)
class Origin:
    """A running origin; `port` serves every path of the benchmark, and so do the gateway's ports if asked for.

    `h2c_port` serves the same over HTTP/2 without TLS, and so do the `more` ports over HTTP/1.1.
    """

    process: Started
    port: int
    h2c_port: int
    more: tuple[int, ...]

    @classmethod
    def start(cls, work: Path, cpus: Cpus, *, serves_gateway: bool, more: int = 0) -> "Origin":
        """Write the bodies and the configuration below `work`, and start."""
        files = work / "files"
        files.mkdir()
        for path, size in FILES.items():
            with (files / path[1:]).open("wb") as body:
                body.truncate(size)
        port, h2c_port, *others = free_ports(2 + more)
        ports = [port, *others, *(GATEWAY_PORTS if serves_gateway else ())]
        listens = [f"        listen 127.0.0.1:{number} backlog=4096;" for number in ports]
        listens.append(f"        listen 127.0.0.1:{h2c_port} backlog=4096 http2;")
        config = work / "origin.conf"
        config.write_text(
            CONFIG.format(
                work=work,
                chunk=SENDFILE_CHUNK,
                user=run_as_owner(work),
                listens="\n".join(listens),
                small=SMALL_BODY.replace("\n", "\\n"),
            )
        )
        process = Started(["nginx", "-e", "stderr", "-c", str(config)], cpu=cpus.load, log=work / "origin.log")
        try:
            wait_until_served(process, port, "/small")
        except BaseException:
            process.stop()
            raise
        return cls(process, port, h2c_port, others)

    def accepted(self) -> int:
        """Return the number of connections it ever took, this question's among them."""
        found = re.search(rb"requests\s+(\d+)", ask_once(self.port, "/accepted").body)
        if not found:
            raise ValueError("the origin does not say how many connections it took")
        return int(found[1])

    def stop(self) -> None:
        self.process.stop()


def run_as_owner(work: Path) -> str:
    """Return nginx's `user` line: started as root its workers must still be able to read the directory."""
    return f"user {work.owner()};" if work.stat().st_uid == 0 else ""
