"""TLS with programs of others: curl and openssl as clients, nginx as origin; `pingora run` and `pingora cert`."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from conversations import wait_until
from free_ports import free_port
from pki import Authority

PINGORA = [sys.executable, "-m", "pingora"]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
NO_OCSP = "OCSP responses?: no "  # what openssl calls it differs
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@pytest.fixture(scope="module")
def ca():
    return Authority()


@pytest.fixture
def gateway(ca, tmp_path, origin_factory):
    """Run `pingora run --from tls://… --to …`; gives a function that starts it, with its port as the result."""
    running = []

    def start(*options, to=None, workers=2, env=None):
        chain, key = ca.issue("localhost", "127.0.0.1").write(tmp_path, "server")
        (tmp_path / "ca.pem").write_bytes(ca.chain)
        port = free_port()
        listen = f"tls://127.0.0.1:{port}?cert={chain}&key={key}{''.join(options)}"
        upstream = to or f"http://{origin_factory(OK).address}"
        command = [*PINGORA, "run", "--from", listen, "--to", upstream, "--workers", str(workers)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env))
        wait_until(lambda: is_open(port))
        return port

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 0


def is_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@needs_curl
def test_curl_is_answered_and_verifies(gateway, tmp_path):
    port = gateway()
    answer = run("curl", "-sS", "-i", "--http1.1", "--cacert", tmp_path / "ca.pem", f"https://localhost:{port}/")
    assert answer.stdout.startswith("HTTP/1.1 200"), answer.stderr
    assert run("curl", "-sS", f"https://localhost:{port}/").returncode == 60  # not its authorities


@needs_curl
@pytest.mark.parametrize(("option", "version"), [("--http2", "HTTP/2"), ("--http1.1", "HTTP/1.1")])
def test_curl_gets_what_it_offers(gateway, tmp_path, option, version):
    port = gateway()
    answer = run("curl", "-sS", "-i", option, "--cacert", tmp_path / "ca.pem", f"https://localhost:{port}/")
    assert answer.stdout.startswith(f"{version} 200"), answer.stderr


@needs_curl
def test_curl_must_show_a_certificate_if_it_is_asked(ca, gateway, tmp_path):
    (tmp_path / "clients.pem").write_bytes(ca.chain)
    port = gateway(f"&client_ca={tmp_path}/clients.pem")
    chain, key = ca.issue("alice").write(tmp_path, "alice")
    command = ["curl", "-sS", "-i", "--cacert", tmp_path / "ca.pem", f"https://localhost:{port}/"]
    assert run(*command, "--cert", chain, "--key", key).stdout.startswith("HTTP/2 200")
    assert run(*command).returncode != 0


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_tickets_of_one_worker_are_good_for_all(gateway, tmp_path, version):
    port = gateway(workers=4)
    ticket = tmp_path / "ticket"
    request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", version, "-ign_eof"]
    first = run(*command, "-sess_out", ticket, input=request)
    assert "New, TLSv1" in first.stdout
    for _ in range(12):  # of which the kernel gives every worker some
        again = run(*command, "-sess_in", ticket, input=request)
        assert "Reused, TLSv1" in again.stdout
        assert "HTTP/1.1 200" in again.stdout


@needs_openssl
def test_openssl_negotiates_nothing_old(gateway):
    port = gateway()
    for options in (["-tls1"], ["-tls1_1"], ["-tls1_2", "-cipher", "AES128-SHA:AES256-GCM-SHA384:@SECLEVEL=0"]):
        ended = run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options, input="")
        assert ended.returncode != 0 or "Cipher is (NONE)" in ended.stdout, options


@needs_openssl
def test_a_renegotiation_is_refused(gateway):
    port = gateway()
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-legacy_renegotiation"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        output, _ = client.communicate(b"R\n", timeout=30)
    assert b"no renegotiation" in output.lower() or b"RENEGOTIATING" in output
    assert b"HTTP/1.1" not in output


@needs_openssl
def test_an_ocsp_response_is_stapled(ca, proxy_factory, origin_factory):
    from conversations import proxy_to

    from pingora import Certificate, TlsSettings

    issued = ca.issue("localhost")
    certificates = [Certificate(issued.chain, issued.key, ocsp=ca.ocsp(issued, 3600)), plain(ca, "localhost")]
    proxy = proxy_factory(proxy_to(origin_factory(OK).address), tls=TlsSettings(certificates))
    command = ["openssl", "s_client", "-connect", proxy.address, "-servername", "localhost", "-status"]
    assert "OCSP Response Status: successful" in run(*command, input="").stdout
    rsa_only = [*command, "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]
    assert re.search(NO_OCSP, run(*rsa_only, input="").stdout)


@needs_openssl
def test_an_ocsp_response_is_stapled_until_its_next_update(ca, proxy_factory, origin_factory):
    from conversations import proxy_to

    from pingora import Certificate, TlsSettings

    issued = ca.issue("localhost")
    certificate = Certificate(issued.chain, issued.key, ocsp=ca.ocsp(issued, 3))
    proxy = proxy_factory(proxy_to(origin_factory(OK).address), tls=TlsSettings(certificate))
    command = ["openssl", "s_client", "-connect", proxy.address, "-servername", "localhost", "-status"]
    wait_until(lambda: re.search(NO_OCSP, run(*command, input="").stdout))


def plain(ca, name):
    from pingora import Certificate

    issued = ca.issue(name, kind="RSA")
    return Certificate(issued.chain, issued.key)


@needs_curl
def test_sslkeylogfile_gets_the_keys_of_all_workers(gateway, tmp_path):
    log = tmp_path / "keys.log"
    port = gateway(env=os.environ | {"SSLKEYLOGFILE": str(log)})
    env = {name: value for name, value in os.environ.items() if name != "SSLKEYLOGFILE"}
    run("curl", "-sS", "--cacert", tmp_path / "ca.pem", f"https://localhost:{port}/", env=env)
    lines = log.read_text().splitlines()
    assert any(line.startswith("SERVER_TRAFFIC_SECRET_0 ") for line in lines)
    assert log.stat().st_mode & 0o777 == 0o600


NGINX_CONF = """
{user}daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c; uwsgi_temp_path {dir}/d;
    scgi_temp_path {dir}/e;
    server {{
        listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {dir}/origin.pem; ssl_certificate_key {dir}/origin.key;
        root {dir};
        add_header X-Resumed $ssl_session_reused; add_header X-Sni $ssl_server_name; add_header X-V $ssl_protocol;
    }}
}}
"""


@needs_nginx
@needs_curl
def test_nginx_as_an_origin_with_tls(ca, gateway, tmp_path):
    ca.issue("localhost").write(tmp_path, "origin")
    big = bytes(range(256)) * 20000
    (tmp_path / "big").write_bytes(big)
    port = free_port()
    user = "user root; " if os.getuid() == 0 else ""  # who may read what the test wrote
    (tmp_path / "nginx.conf").write_text(NGINX_CONF.format(dir=tmp_path, port=port, user=user))
    nginx = subprocess.Popen([NGINX, "-c", tmp_path / "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_open(port))
        edge = gateway(to=f"https://localhost:{port}?ca={tmp_path}/ca.pem", workers=1)
        url = f"https://localhost:{edge}/big"
        answer = run("curl", "-sS", "-D", "-", "-o", tmp_path / "got", "--cacert", tmp_path / "ca.pem", url)
        assert answer.stdout.startswith("HTTP/2 200"), answer.stderr
        assert "x-sni: localhost" in answer.stdout.lower()
        assert "x-v: TLSv1.3".lower() in answer.stdout.lower()
        assert (tmp_path / "got").read_bytes() == big
    finally:
        nginx.terminate()
        nginx.wait(20)


def test_a_listener_without_its_files_says_so(tmp_path):
    ended = run(*PINGORA, "run", "--from", f"tls://127.0.0.1:0?cert={tmp_path}/none.pem", "--to", "http://127.0.0.1:1")
    assert ended.returncode == 2
    assert "none.pem: No such file or directory" in ended.stderr
    ended = run(*PINGORA, "run", "--from", "tls://127.0.0.1:0", "--to", "http://127.0.0.1:1")
    assert ended.returncode == 2
    assert "?cert=FILE&key=FILE" in ended.stderr


def test_cert_makes_shows_and_checks(ca, tmp_path):
    in_here = {"cwd": tmp_path}
    assert run(*PINGORA, "cert", "self-signed", "localhost", "*.test", "127.0.0.1", **in_here).returncode == 0
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    again = run(*PINGORA, "cert", "self-signed", "localhost", **in_here)
    assert again.returncode == 2
    assert "--force" in again.stderr
    shown = run(*PINGORA, "cert", "show", "cert.pem", **in_here).stdout
    assert re.search(r"^names +localhost, \*\.test, 127\.0\.0\.1$", shown, re.MULTILINE)
    assert re.search(r"^key +EC 256$", shown, re.MULTILINE)
    checked = run(*PINGORA, "cert", "check", "cert.pem", "key.pem", "--host", "a.test", **in_here)
    assert checked.returncode == 0, checked.stderr
    assert "good for *.test, localhost" in checked.stdout


def test_cert_check_names_what_is_wrong(ca, tmp_path):
    late = ca.issue("late.test", days=(-20, -10))
    late.write(tmp_path, "late")
    other, _ = ca.issue("other.test").write(tmp_path, "other")
    (tmp_path / "chain.pem").write_bytes(late.chain + other.read_bytes())
    ended = run(*PINGORA, "cert", "check", "chain.pem", "late.key", "--host", "www.test", cwd=tmp_path)
    assert ended.returncode == 1
    for problem in ("expired on", "did not issue the one before it", "it is not for www.test, but for late.test"):
        assert problem in ended.stderr
    ended = run(*PINGORA, "cert", "check", "late.pem", "other.key", cwd=tmp_path)
    assert ended.returncode == 1
    assert "not the key of" in ended.stderr


def test_a_name_that_is_too_long_for_a_subject_is_an_alternative_name(tmp_path):
    name = f"{'a' * 60}.{'b' * 60}.test"
    assert run(*PINGORA, "cert", "self-signed", name, cwd=tmp_path).returncode == 0
    shown = run(*PINGORA, "cert", "show", "cert.pem", cwd=tmp_path).stdout
    assert re.search(rf"^subject +$\n^issuer +$\n^names +{name}$", shown, re.MULTILINE)
    assert run(*PINGORA, "cert", "check", "cert.pem", "key.pem", "--host", name, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "name", ["", "a b", "foo..com", "a\nb", "-a.test", "a.*.test", "*", "b\u00fccher..de", "a" * 64]
)
def test_a_certificate_is_for_dns_names_and_addresses_only(tmp_path, name):
    ended = run(*PINGORA, "cert", "self-signed", "--", name, cwd=tmp_path)
    told = f"pingora: Invalid value: {name!r}: expected a DNS name such as app.test or *.app.test, or an IP address\n"
    assert (ended.returncode, ended.stderr) == (2, told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--cert", "there.pem"], "there.pem: File exists; --force overwrites it"),
        (["--cert", "none/cert.pem"], "none/cert.pem: No such file or directory"),
        (["--cert", "none/cert.pem", "--force"], "none/cert.pem: No such file or directory"),
        (["--cert", "same.pem", "--key", "./same.pem", "--force"], "same.pem: give --cert and --key different files"),
    ],
)
def test_a_certificate_that_cannot_be_written_leaves_no_key(tmp_path, options, told):
    (tmp_path / "there.pem").write_text("there")
    ended = run(*PINGORA, "cert", "self-signed", "a.test", *options, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (2, f"pingora: {told}\n")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("there.pem", "there")]


@pytest.mark.parametrize(
    ("host", "code", "told"),
    [
        ("127.0.0.1", 0, "cert.pem: good for a.test, 127.0.0.1, ::1 until "),
        ("0:0:0:0:0:0:0:1", 0, "cert.pem: good for a.test, 127.0.0.1, ::1 until "),
        ("10.0.0.1", 1, "cert.pem: it is not for 10.0.0.1, but for a.test, 127.0.0.1, ::1\n"),
    ],
)
def test_cert_check_compares_addresses_with_addresses(tmp_path, host, code, told):
    run(*PINGORA, "cert", "self-signed", "a.test", "127.0.0.1", "::1", cwd=tmp_path)
    ended = run(*PINGORA, "cert", "check", "cert.pem", "key.pem", "--host", host, cwd=tmp_path)
    assert (ended.returncode, (ended.stdout + ended.stderr).startswith(told)) == (code, True)


def test_the_keys_of_tickets_change_with_time_in_all_processes_alike():
    from pingora_c.net.tls_tickets import TicketKeys

    secret = b"s" * 32
    first, second = TicketKeys(1, secret), TicketKeys(1, secret)
    (before, _) = first.names
    wait_until(lambda: first.names[1] == before)  # what was the present key is the one before
    wait_until(lambda: second.names == first.names)
    random = TicketKeys(1)
    (before, _) = random.names
    wait_until(lambda: random.names[1] == before)
