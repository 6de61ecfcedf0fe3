"""A TcpProxy that pingora.toml describes: served, reloaded in place, and what is wrong with it."""

import socket
import subprocess

from configured import PINGORA, starting, write
from conversations import wait_until
from tcp_peers import told

from pingora.testing import read_all

HOOK = """
import pingora

class Named(pingora.TcpProxy):
    def connection_filter(self, session):
        return b"not you" if session.client_address != "unix" else None

class Http(pingora.ProxyHttp):
    pass
"""


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(path))
    return client


def end(client):
    client.sendall(b"hello")
    client.shutdown(socket.SHUT_WR)
    with client:
        return read_all(client)


def test_a_file_is_served_and_a_reload_leaves_open_connections_alone(tmp_path, peer_factory):
    first, second = peer_factory(told(b"first")), peer_factory(told(b"second"))
    (tmp_path / "named.py").write_text(HOOK)
    lines = ['protocol = "tcp"', f'listeners = ["unix:{tmp_path}/a"]', 'hook = "named:Named"']
    file = write(tmp_path, *lines, f'upstreams.endpoints = ["{first.address}"]')
    with starting(tmp_path) as start:
        running = start(file)
        assert end(connect(tmp_path / "a")) == b"first:hello"
        before = first.n_connections
        kept = connect(tmp_path / "a")
        wait_until(lambda: first.n_connections > before)
        kept.sendall(b"before ")
        write(tmp_path, *lines, f'upstreams.endpoints = ["{second.address}"]')
        running.reload()
        wait_until(lambda: end(connect(tmp_path / "a")) == b"second:hello")
        assert end(kept) == b"first:before hello"
        running.stop()
    assert any('"CONNECTION - TCP" 000 11' in line for line in running.output)


def test_a_class_of_the_other_kind_is_told(tmp_path):
    (tmp_path / "named.py").write_text(HOOK)
    for protocol, name, base in (("tcp", "Http", "TcpProxy"), ("http", "Named", "ProxyHttp")):
        file = write(
            tmp_path,
            f'protocol = "{protocol}"',
            f'listeners = ["unix:{tmp_path}/a"]',
            f'hook = "named:{name}"',
            'upstreams.endpoints = ["127.0.0.1:1"]',
        )
        checked = subprocess.run([*PINGORA, "check", str(file)], capture_output=True, text=True, timeout=60)
        assert checked.returncode == 2
        assert f"named.py is no class that extends pingora.{base}" in checked.stderr
