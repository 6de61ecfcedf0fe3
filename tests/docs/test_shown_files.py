"""Configurations that guides show are accepted, with the modules and files that they name, and their keys exist."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from walkthrough import PAGES, ROOT

from pingora.config.reader import keys_of, read_config

FENCE = re.compile(r"^```(toml|python|nginx)\n(.*?)^```", re.DOTALL | re.MULTILINE)
KEY = re.compile(r"`((?:listeners|upstreams|limits|retry|logs)(?:\.[a-z0-9_]+)+)")
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
PINGORA = [sys.executable, "-m", "pingora"]


def pingora(directory, *arguments):
    return subprocess.run([*PINGORA, *arguments], capture_output=True, text=True, timeout=60, cwd=directory)


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("tutorial.md", "Gateway on 127.0.0.1:8443 to 2 upstreams by RoundRobin"),
        ("from_nginx.md", "Headers on :80, :443 to 2 upstreams by LeastConnections"),
    ],
)
def test_check_accepts_what_is_shown(tmp_path, name, summary):
    made = pingora(tmp_path, "cert", "self-signed", "localhost")
    assert made.returncode == 0, made.stderr
    (tmp_path / "chain.pem").write_bytes((tmp_path / "cert.pem").read_bytes())
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "502.html").write_text("<h1>Sorry</h1>")
    files = FENCE.findall((ROOT / "docs" / name).read_text())
    for _, text in files:
        if module := re.match(r"# (\w+\.py)\n", text):
            (tmp_path / module[1]).write_text(text)
    configurations = [text for kind, text in files if kind == "toml"]
    assert len(configurations) == 1
    (tmp_path / "pingora.toml").write_text(configurations[0].replace("/var/log/pingora", str(tmp_path)))
    checked = pingora(tmp_path, "check", "pingora.toml")
    assert (checked.stdout, checked.stderr) == (f"pingora.toml: ok, {summary}\n", "")


SHOWN = [
    pytest.param(text, id=path.name)
    for path in PAGES
    for kind, text in FENCE.findall(path.read_text())
    if kind == "toml"
]


@pytest.mark.parametrize("text", SHOWN)
def test_each_configuration_has_keys_and_values_that_exist(text):
    read_config("shown.toml", text)


@pytest.mark.parametrize("name", ["from_nginx.md", "from_pingora.md"])
def test_keys_that_are_named_exist(name):
    known = {".".join(path[:length]) for path, _ in keys_of() for length in range(1, len(path) + 1)}
    named = KEY.findall((ROOT / "docs" / name).read_text())
    assert len(named) > 3
    assert [key for key in named if key not in known] == []


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_accepts_the_server_block(tmp_path):
    assert pingora(tmp_path, "cert", "self-signed", "localhost").returncode == 0
    shown = next(text for kind, text in FENCE.findall((ROOT / "docs" / "from_nginx.md").read_text()) if kind == "nginx")
    replacements = {
        "/var/log/nginx": str(tmp_path),
        "listen 80": f"listen unix:{tmp_path}/a",
        "listen 443": f"listen unix:{tmp_path}/b",
        "ssl_certificate chain.pem": f"ssl_certificate {tmp_path}/cert.pem",
        "ssl_certificate_key key.pem": f"ssl_certificate_key {tmp_path}/key.pem",
    }
    for old, new in replacements.items():
        assert old in shown
        shown = shown.replace(old, new)
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\n{shown}")
    command = [NGINX, "-t", "-e", f"{tmp_path}/error.log", "-p", tmp_path, "-c", tmp_path / "nginx.conf"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
