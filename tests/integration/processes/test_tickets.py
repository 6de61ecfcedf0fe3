"""Sessions of TLS clients are resumed by the workers of the next generation, and of the next supervisor."""

import socket
import ssl

import pytest
from conversations import GET
from pki import Authority

SOURCE = """
from pingora import Certificate, ProxyHttp, Response, Server, TlsSettings


class Answers(ProxyHttp):
    def upstream_peer(self, session, ctx):
        raise AssertionError

    def request_filter(self, session, ctx):
        return Response(200, {{}}, "resumed" if session.tls.resumed else "new")


server = Server()
server.add_proxy(Answers(), "127.0.0.1:0", tls=TlsSettings(Certificate({chain!r}, {key!r})))
"""


def ask(context, port, session):
    with (
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
    ):
        client.sendall(GET)
        answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return answer.rpartition(b"\r\n")[2], client.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tickets_outlive_code_reloads_and_upgrades(proxy, tmp_path, version):
    ca = Authority()
    chain, key = ca.issue("localhost").write(tmp_path, "server")
    running = proxy("--workers", "2", source=SOURCE.format(chain=str(chain), key=str(key)))
    context = ssl.create_default_context(cadata=ca.chain.decode())
    context.maximum_version = version
    said, session = ask(context, running.port, None)
    assert said == b"new"
    for command in ("reload", "upgrade", "reload"):
        running.ask(command)
        said, _ = ask(context, running.port, session)
        assert said == b"resumed", command
    assert ask(context, running.port, None)[0] == b"new"
    running.ask("stop")
