"""What pages show on a console is what happens."""

import os
import re
import shlex
import shutil
import socket
import sys
from pathlib import Path

import pytest
import walkthrough
from free_ports import free_ports
from walkthrough import PAGES, PORTS, ROOT, Failed, Reader, blocks_of, is_as_shown

from pingora import ProxyHttp, Response
from pingora.cli.demo import GATEWAY

SHOWING = [
    page
    for page in PAGES
    if any(one.language == "console" and not one.is_left_out for one in blocks_of(page.read_text()))
]
DEMO = "[ $1 = run ] || exit 0\nexec {python} -m pingora.cli.demo --port {8080} --origins {9001} {9002}"


def program(directory, name, script):
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def reader(tmp_path):
    usual = re.findall(r"\d+", PORTS.pattern)
    ports = dict(zip(usual, free_ports(len(usual)), strict=True))
    programs, home = tmp_path / "bin", tmp_path / "home"
    programs.mkdir()
    home.mkdir()
    python = shlex.quote(sys.executable)
    for name in ("pingora", "pytest"):
        program(programs, name, f'exec {python} -m {name} "$@"')
    program(programs, "python3", f'exec {python} "$@"')
    program(programs, "pip", "exit 0")  # what it would install is here
    words = {"{python}": python} | {f"{{{shown}}}": str(port) for shown, port in ports.items()}
    program(programs, "make", re.sub(r"\{\w+\}", lambda match: words[match[0]], DEMO))
    (programs / ".curlrc").write_text("silent\nshow-error\n")  # its progress is for terminals only
    others = Path(shutil.which("curl") or "/usr/bin/curl").parent  # of an asan build: without its sanitizer
    environment = os.environ | {
        "PATH": f"{programs}:{others}:/usr/bin:/bin",
        "PYTHONPATH": ":".join(path for path in sys.path if path),
        "PYTHONUNBUFFERED": "1",
        "XDG_RUNTIME_DIR": str(tmp_path),
        "CURL_HOME": str(programs),
    }
    reader = Reader(home, environment, ports)
    yield reader
    reader.close()


@pytest.mark.parametrize("page", SHOWING, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_do_what_is_shown(reader, page):
    if page == ROOT / "README.md" and not GATEWAY.is_file():
        pytest.skip("the demonstration runs from a checkout")
    assert reader.follow(page.read_text()) > 0


@pytest.mark.parametrize(
    ("shown", "output", "is_right"),
    [
        ("one\n…\nlast\n", "one\ntwo\nthree\nlast\n", True),
        ("one\n…\nlast\n", "one\ntwo\nthree\n", False),
        ("with 1 worker, process 4711\n", "with 1 worker, process 12\r\n", True),
        ("with 1 worker, process 4711\n", "with 2 workers, process 12\n", False),
    ],
)
def test_outputs_are_compared(shown, output, is_right):
    assert is_as_shown(shown, output) == is_right


def test_a_command_that_does_something_else_is_told(reader):
    with pytest.raises(Failed, match="shown is:\nhi\n\nwhat came:\nho"):
        reader.follow("```console\n$ echo ho\nhi\n```\n")


def test_an_error_that_curl_is_answered_is_told_where_no_output_is_shown(reader, proxy_factory):
    class Closed(ProxyHttp):
        def upstream_peer(self, session, ctx):
            return Response(403)

    url = f"http://{proxy_factory(Closed()).address}/"
    reader.follow(f"```console\n$ curl -i {url}\nHTTP/1.1 403 Forbidden\n…\n```\n")
    with pytest.raises(Failed, match="ended with 22"):
        reader.follow(f"```console\n$ curl {url}\n```\n")


def test_who_listens_on_a_port_of_the_page_is_told_before_anything_is_typed(tmp_path, capsys, monkeypatch):
    page = tmp_path / "page.md"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr(walkthrough, "PORTS", re.compile(rf"\b{port}\b"))
        page.write_text(f"```console\n$ touch typed\n```\nThe proxy is on 127.0.0.1:{port}.\n")
        assert walkthrough.main(str(page), str(tmp_path)) == 2
    assert f"somebody listens on {port} of 127.0.0.1" in capsys.readouterr().out
    assert not (tmp_path / "typed").exists()
    assert walkthrough.ports_in_use(page.read_text()) == []
