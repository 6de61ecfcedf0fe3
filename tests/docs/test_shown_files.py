"""Configurations that guides show are accepted by `pingora check`, with the modules and files that they name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(toml|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
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
    (tmp_path / "pingora.toml").write_text(configurations[0])
    checked = pingora(tmp_path, "check", "pingora.toml")
    assert (checked.stdout, checked.stderr) == (f"pingora.toml: ok, {summary}\n", "")
