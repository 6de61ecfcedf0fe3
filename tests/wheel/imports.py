"""Load the core, ssl and cryptography in every order, with a TLS handshake behind each: three OpenSSLs together.

Run by itself; each order has a process of its own. No test file, so that pytest does not import everything first. Where
pingora is installed from a repaired wheel, the core must use the libraries that came with it and no others.
"""

import importlib
import itertools
import os
import re
import socket
import subprocess
import sys

# What is imported, and the library that this loads and that nothing before it may have loaded.
MODULES = {
    "ssl": "_ssl",
    "cryptography.hazmat.bindings.openssl.binding": "cryptography.hazmat.bindings._rust",
    "pingora_c.base.linked": "pingora_c.core",
}
OURS = re.compile(r"lib(ssl|crypto|nghttp2)[-.]")
SHARED = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "shared")


def mapped() -> set[str]:
    """Give the libraries of OpenSSL and nghttp2 that are mapped into this process."""
    with open("/proc/self/maps") as maps:
        files = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if "/" in line}
    return {file for file in files if OURS.match(os.path.basename(file))}


def load(name: str) -> set[str]:
    """Import a module; give the libraries that came with it."""
    if MODULES[name] in sys.modules:
        sys.exit(f"{MODULES[name]} is loaded before {name} is imported: so this order is not tried")
    before = mapped()
    importlib.import_module(name)
    if MODULES[name] not in sys.modules:
        sys.exit(f"{name} does not load {MODULES[name]}: so this order is not tried")
    return mapped() - before


def check_libraries(loaded: set[str], directory: str) -> None:
    """Compare what came with the core with the wheel's directory of libraries, which a static core does not need."""
    files = os.listdir(directory) if os.path.isdir(directory) else []
    carried = {os.path.join(directory, file) for file in files if OURS.match(file)}
    if loaded != carried:
        sys.exit(f"the core uses {sorted(loaded)}, the wheel carries {sorted(carried)}")


def shake_hands() -> None:
    """Send a request over TLS to a proxy in this process."""
    sys.path.insert(0, SHARED)
    from pki import Authority

    from pingora import Certificate, ProxyHttp, Response, TlsSettings
    from pingora.testing import RunningProxy

    class Hello(ProxyHttp):
        def upstream_peer(self, session, ctx):
            raise AssertionError

        def request_filter(self, session, ctx):
            return Response(200, {}, "hi")

    ca = Authority()
    issued = ca.issue("localhost")
    proxy = RunningProxy(Hello(), tls=TlsSettings(Certificate(issued.chain, issued.key)))
    with (
        socket.create_connection((proxy.host, proxy.port), 20) as plain,
        ca.trusts().wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while more := client.recv(65536):
            answer += more
    proxy.close()
    if not answer.endswith(b"hi"):
        sys.exit(f"the proxy answered {answer!r}")


def try_order(directory: str, order: list[str]) -> None:
    """Import in this order, in this process; `directory` is "" if the core may use the system's libraries."""
    for name in order:
        loaded = load(name)
        if directory and name == "pingora_c.base.linked":
            check_libraries(loaded, directory)
    shake_hands()


def directory_of_wheel() -> str:
    """Give where auditwheel puts the libraries that it copies; "" if pingora is not from a repaired wheel."""
    from importlib import metadata

    installed = metadata.distribution("pingora")
    tags = installed.read_text("WHEEL") or ""
    is_repaired = "manylinux" in tags or "musllinux" in tags
    return os.path.realpath(installed.locate_file("pingora.libs")) if is_repaired else ""


def main() -> int:
    """Try all orders; 1 if one of them fails."""
    directory = directory_of_wheel()
    print(f"libraries of the wheel: {directory or 'the system has them, it was not repaired'}")
    failed = 0
    for order in itertools.permutations(MODULES):
        command = [sys.executable, __file__, directory, *order]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        print(f"{', '.join(order)}: {'ok' if ended.returncode == 0 else ended.stderr}", flush=True)
        failed |= ended.returncode != 0
    return failed


if __name__ == "__main__":
    if len(sys.argv) > 1:
        try_order(sys.argv[1], sys.argv[2:])
    else:
        sys.exit(main())
