"""Sessions of TLS clients are resumed by the workers of the next generation, and of the next supervisor."""

import shutil
import subprocess

import pytest
from pki import Authority

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")

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
OWN = (
    SOURCE
    + """
server.run(workers=2)
"""
)
GET = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def source(tmp_path):
    chain, key = Authority().issue("localhost").write(tmp_path, "server")
    return lambda text: text.format(chain=str(chain), key=str(key))


@pytest.fixture(params=["pingora run", "server.run()"])
def instance(request, source, proxy, app):
    """What gives commands to an instance with two workers, by either way to start one."""
    if request.param == "pingora run":
        return proxy("--workers", "2", source=source(SOURCE)).ask
    app.write("", source=source(OWN))
    app.start()
    return app.tell


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_tickets_outlive_code_reloads_and_upgrades(instance, tmp_path, version):
    port = instance("status")["status"]["listeners"][0].rpartition(":")[2]
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", version, "-ign_eof"]
    ticket = str(tmp_path / "ticket")

    def said(*options):
        run = subprocess.run([*client, *options], input=GET, capture_output=True, text=True, timeout=60)
        assert "HTTP/1.1 200" in run.stdout, run
        assert ("Reused, TLSv1" in run.stdout) == ("\n\nresumed" in run.stdout), run.stdout
        return "Reused, TLSv1" in run.stdout

    assert not said("-sess_out", ticket)
    for command in ("reload", "upgrade", "reload"):
        instance(command)
        for _ in range(6):  # of which the kernel gives each of two workers some
            assert said("-sess_in", ticket), command
    assert not said()
    instance("stop")
