"""docs/configuration.md beside the model, and examples/pingora.toml as a program."""

import re
import subprocess
import tomllib
from pathlib import Path

from configured import PINGORA, Connection, starting

from pingora.config.reader import keys_of

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text()
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| (?:`([^`]*)`|(none)?) ?\|", re.MULTILINE)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def documented(path, default):
    """Give a default as the tables have it."""
    if default is None:
        return "none" if path[0] == "retry" else None
    return list(default) if isinstance(default, tuple) else default


def test_every_key_is_described_with_its_default():
    described = {
        name: tomllib.loads(f"x = {value}")["x"] if value else None for name, value, _ in ROW.findall(DOCUMENT)
    }
    keys = {
        ".".join(path): None if default is ... else documented(path, default)
        for path, default in keys_of()
        if path[0] != "limits"  # docs/limits.md has them, and a test of its own
    }
    del described["listeners"], described["upstreams.endpoints"]  # arrays of tables, whose keys follow
    assert described == keys


def test_the_example_is_right_and_serves(tmp_path, origin_factory):
    for path in (ROOT / "examples").glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    origins = [origin_factory(OK), origin_factory(OK)]
    text = (ROOT / "examples" / "pingora.toml").read_text()
    text = text.replace("127.0.0.1:8080", f"unix:{tmp_path}/a")
    for port, origin in zip((9001, 9002), origins, strict=True):
        text = text.replace(f"127.0.0.1:{port}", origin.address)
    file = tmp_path / "pingora.toml"
    file.write_text(text)
    checked = subprocess.run([*PINGORA, "check", str(file)], capture_output=True, text=True, timeout=30)
    assert checked.stdout == f"{file}: ok, Events on unix:{tmp_path}/a to 2 upstreams by Ketama\n", checked.stderr
    with starting(tmp_path) as start:
        running = start(file)
        assert Connection(tmp_path / "a").get() == b"ok"
        running.stop()
    assert '"GET / HTTP/1.1" 200 2' in running.output[0]
