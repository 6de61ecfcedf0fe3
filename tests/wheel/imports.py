"""Import pingora, ssl and cryptography in every order, with a TLS handshake behind each: three OpenSSLs together.

Run by itself; each order has a process of its own. No test file, so that pytest does not import everything first.
"""

import itertools
import subprocess
import sys

MODULES = ("ssl", "cryptography.hazmat.bindings.openssl.binding", "pingora")

HANDSHAKE = """
import socket, ssl, sys, tempfile, pathlib
sys.path.insert(0, {shared!r})
from pki import Authority
from pingora import Certificate, ProxyHttp, Response, TlsSettings
from pingora.testing import RunningProxy

class Hello(ProxyHttp):
    def upstream_peer(self, session, ctx):
        raise AssertionError
    def request_filter(self, session, ctx):
        return Response(200, {{}}, "hi")

ca = Authority()
issued = ca.issue("localhost")
proxy = RunningProxy(Hello(), tls=TlsSettings(Certificate(issued.chain, issued.key)))
with socket.create_connection((proxy.host, proxy.port), 20) as plain:
    with ca.trusts().wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
        answer = b""
        while more := client.recv(65536):
            answer += more
assert answer.endswith(b"hi"), answer
proxy.close()
import pingora
print(pingora.__file__)
"""


def main() -> int:
    """Try all orders; 1 if one of them fails."""
    shared = __file__.rpartition("/")[0] + "/../shared"
    failed = 0
    for order in itertools.permutations(MODULES):
        code = "".join(f"import {name}\n" for name in order) + HANDSHAKE.format(shared=shared)
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        print(f"{', '.join(order)}: {'ok' if ended.returncode == 0 else ended.stderr}", flush=True)
        failed |= ended.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
