"""Listeners that change while workers serve: addresses that share a port with those before."""

import socket
import subprocess

import pytest
from configured import PINGORA, starting, write
from free_ports import free_port

needs_ipv6 = pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")


@pytest.fixture
def start(tmp_path):
    with starting(tmp_path) as start:
        yield start


def status(host, port):
    """The status that a listener answers with; None if it refuses."""
    try:
        with socket.create_connection((host, port), 20) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return int(client.recv(100).split()[1])
    except ConnectionRefusedError:
        return None


@needs_ipv6
def test_an_address_gives_way_to_another_one_of_its_port(tmp_path, start):
    port = free_port()

    def program(address):
        return write(
            tmp_path,
            f'listeners = ["unix:DIR/a", "{address}"]',
            'logs = { access = "off", level = "error" }',
            'upstreams.endpoints = ["127.0.0.1:1"]',
        )

    running = start(program(f"127.0.0.1:{port}"), "--workers", "2")
    running.expect("listening on")
    for address, v4, v6 in (
        (f":{port}", 502, 502),
        (f"[::]:{port}", None, 502),
        (f":{port}", 502, 502),
        (f"0.0.0.0:{port}", 502, None),
        (f"127.0.0.1:{port}", 502, None),
        (f"[::]:{port}", None, 502),
    ):
        program(address)
        running.reload()
        assert "has taken over in place" in running.expect("re"), address
        for _ in range(4):  # whichever worker's socket a client comes to
            assert (status("127.0.0.1", port), status("::1", port)) == (v4, v6), address
    running.stop()


TWICE = """
import pingora
server = pingora.Server()
server.add_proxy(pingora.ProxyHttp(), [":8080", "127.0.0.1:8081"])
server.add_proxy(pingora.ProxyHttp(), "0.0.0.0:8081")
server.add_proxy(pingora.ProxyHttp(), ":08080")
for site in server.sites:
    site.proxy.upstreams = pingora.LoadBalancer(["127.0.0.1:1"])
"""


@pytest.mark.parametrize("verb", ["check", "run"])
def test_an_address_that_comes_twice_is_told(tmp_path, verb):
    file = tmp_path / "edge.py"
    file.write_text(TWICE)
    ended = subprocess.run([*PINGORA, verb, str(file)], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (
        2,
        "pingora: cannot listen on ':08080': the address is used twice\n",
    )
