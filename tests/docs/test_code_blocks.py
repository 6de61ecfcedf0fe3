"""Every Python block of the documentation runs, and its proxies serve."""

import inspect
import re
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
from conversations import GET
from pki import Authority
from walkthrough import PAGES, ROOT
from walkthrough import blocks_of as fences_of

import pingora_c
from pingora import LoadBalancer, ProxyHttp, metrics
from pingora.rings import rings
from pingora_c.proxy.plan import PHASES

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ADDRESS = re.compile(r"127\.0\.0\.1:90\d\d")
ACCOUNT = b'{"user": "ada", "iban": "42"}'
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(ACCOUNT), ACCOUNT)


@dataclass
class Block:
    path: Path
    line: int
    text: str

    def __str__(self):
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    def compiled(self, text):
        """Compile `text`, made of the block, so that a traceback names the line of the document."""
        return compile("\n" * self.line + text, str(self.path), "exec")


def blocks_of(path):
    text = path.read_text()
    for match in FENCE.finditer(text):
        if match[1] == "python":
            yield Block(path, text.count("\n", 0, match.start()) + 1, match[2])


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
TESTS = [block for block in BLOCKS if "def test_" in block.text]
PROGRAMS = [block for block in BLOCKS if "def test_" not in block.text]


@pytest.fixture(autouse=True)
def forget():
    """What a block counts in metrics of its own, and its rings, are the process's until then."""
    yield
    metrics.place.use(None)
    rings.use({})
    rings.is_given = False
    rings.sizes.clear()


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_block_runs_and_its_proxies_serve(proxy_factory, origin_factory, tmp_path, monkeypatch, caplog, block):
    origins = {}
    write_certificates(tmp_path, block.text)
    monkeypatch.chdir(tmp_path)

    def origin(match):
        return origins.setdefault(match[0], origin_factory(JSON)).address

    module = types.ModuleType("block")
    exec(block.compiled(ADDRESS.sub(origin, block.text)), module.__dict__)
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == "block"]
    for kind in kinds:
        if not issubclass(kind, ProxyHttp):
            continue
        assert [name for name in PHASES if parameters(kind, name) != parameters(ProxyHttp, name)] == []
        proxy = kind()
        if proxy.upstreams is None and kind.upstream_peer is ProxyHttp.upstream_peer:  # it gets them by a configuration
            proxy.upstreams = LoadBalancer([origin_factory(JSON).address])
        running = proxy_factory(proxy)
        answer = running.exchange(GET.replace(b"Host", b"X-Api-Key: secret\r\nHost"))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        if client := vars(proxy).get("client"):
            running.call((client.aclose if hasattr(client, "aclose") else client.close)())
    assert caplog.text == ""


def write_certificates(directory, text):
    """Write the files that a block names: www.pem is a certificate and its key, www.key that key, staff-ca.pem a CA."""
    authority = Authority()
    issued = {}
    for stem, suffix in re.findall(r'"([\w-]+)\.(pem|key|crl)"', text):
        name = "chain" if stem == "key" else stem
        one = issued.setdefault(name, authority.issue(f"{name}.example.com", kind="RSA" if name == "rsa" else "EC"))
        content = {"pem": one.chain + one.key, "key": one.key, "crl": authority.crl()}[suffix]
        content = authority.chain if stem.endswith("-ca") else one.key if stem == "key" else content
        (directory / f"{stem}.{suffix}").write_bytes(content)


def parameters(kind, name):
    return list(inspect.signature(getattr(kind, name)).parameters)


@pytest.mark.parametrize("block", TESTS, ids=str)
def test_a_block_of_tests_passes(tmp_path, block):
    for other in PROGRAMS:  # modules that it may import: blocks before it that begin with their file's name
        if other.path == block.path and other.line < block.line and (name := re.match(r"# (\w+\.py)\n", other.text)):
            (tmp_path / name[1]).write_text(other.text)
    file = tmp_path / "test_block.py"
    file.write_text(block.text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, file]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("name", ["README.md", "docs/hooks.md"])
def test_blocks_are_found(name):
    assert any(block.path == ROOT / name for block in PROGRAMS)


def test_every_hook_is_in_the_table_of_phases():
    text = (ROOT / "docs" / "phases.md").read_text()
    wanted = []
    for name in PHASES:
        given = ", ".join(parameters(ProxyHttp, name)[1:])
        wanted.append(f"| `{name}` | `{name}({given})` |")
    assert [row for row in wanted if row not in text] == []


def test_every_reason_of_a_failure_is_in_the_table_with_its_status():
    source = (Path(pingora_c.__file__).parent / "proxy" / "failure.pyx").read_text()
    rows = re.findall(r'= Row\((\d+), b"(\w+)", b"(\w+)"\)', source)
    lines = (ROOT / "docs" / "phases.md").read_text().splitlines()

    def is_told(status, reason, where):
        row = next((line for line in lines if line.startswith("|") and f"`{reason}`" in line.split("|")[1]), "")
        return f"| {where} |" in row and (status == "0" or status in row)

    assert len(rows) > 15
    assert [reason for status, reason, where in rows if reason != "ok" and not is_told(status, reason, where)] == []


# Where blocks of a language are looked at: here, or as walkthroughs, or as files that are shown.
LOOKED_AT = {"python", "console", "toml", "nginx"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_block_is_run_or_says_why_not(path):
    page = path.read_text()
    others = [block for block in fences_of(page) if block.language not in LOOKED_AT]
    assert [block.line for block in others if block.language != "text" and not block.is_left_out] == []
    assert [block.line for block in fences_of(page) if block.language == "python" and block.is_left_out] == []
    assert re.findall(r"\n\n    \S.*", FENCE.sub("", page)) == []  # commands in no block at all
