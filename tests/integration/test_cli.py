"""The command line: errors of use, clean stops, curl as client."""

import shutil
import signal
import socket
import subprocess
import sys

import pytest
from pki import Authority
from running import Running
from tls_origin import TlsOrigin

PINGORA = [sys.executable, "-m", "pingora"]
CURL = ["curl", "-sS", "--retry", "20", "--retry-delay", "0", "--retry-all-errors", "--retry-max-time", "15"]


def run(*arguments):
    return subprocess.run([*PINGORA, *arguments], capture_output=True, text=True, timeout=20)


def test_version_is_printed():
    assert run("version").stdout.startswith("pingora 0.")
    assert run("--version").stdout == run("version").stdout


def test_a_port_that_is_taken_is_one_line_and_code_2():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        ended = run("run", "--from", address, "--to", "http://127.0.0.1:1")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"pingora: cannot listen on '{address}': Address already in use; ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--from", "--control"])
def test_a_file_that_is_no_socket_is_not_replaced(tmp_path, option):
    path = tmp_path / "notes"
    path.write_text("mine")
    places = {"--from": f"unix:{tmp_path}/proxy.sock", "--control": str(tmp_path / "control.sock")}
    places[option] = f"unix:{path}" if option == "--from" else str(path)
    ended = run("run", "--to", "http://127.0.0.1:1", *[part for place in places.items() for part in place])
    assert ended.returncode == 2
    assert str(path) in ended.stderr
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "say what to serve"),
        (["run", "nothing.py"], "no such file: nothing.py"),
        (["run", "--from", "nonsense", "--to", "http://127.0.0.1:1"], "cannot listen on 'nonsense'"),
        (["run", "--from", ":0", "--to", "ftp://127.0.0.1"], "expected http://host:port"),
        (
            ["run", "--from", ":0", "--to", "3000"],
            "upstream '3000': expected http://host:port, as in http://127.0.0.1:3000",
        ),
        (["run", "--bogus"], "pingora: No such option '--bogus'."),
        (
            ["run", "--workers", "x"],
            "pingora: Invalid value for '--workers': expected auto or a whole number from 0 to 256, got 'x'",
        ),
        (["run", "--grace", "nan"], "pingora: Invalid value for '--grace': expected seconds from 0 to 86400, got nan"),
        (
            ["run", "--name", "a/b c"],
            "pingora: Invalid value for '--name': expected a name of up to 64 letters, digits, '_', '-', '.' and '@', "
            "got 'a/b c'",
        ),
        (["run", "one.py", "two.py"], "pingora: Got unexpected extra argument (two.py)"),
        (["status", "--bogus"], "pingora: No such option '--bogus'."),
        (["stauts"], "pingora: No such command 'stauts'."),
    ],
)
def test_errors_of_use_are_one_line_and_code_2(arguments, message):
    ended = run(*arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "place", "message"),
    [
        pytest.param("import pingora\n\n1 / 0\n", ":3", "ZeroDivisionError: division by zero", id="exception"),
        pytest.param(
            "def f():\n    int('x\\ny')\n\nf()\n", ":2", "ValueError: invalid literal for int()", id="in a call"
        ),
        pytest.param("raise KeyboardInterrupt\n", ":1", "KeyboardInterrupt", id="a BaseException"),
        pytest.param("raise KeyError\n", ":1", "KeyError", id="without a message"),
        pytest.param("raise ValueError('a\\nb')\n", ":1", "ValueError: a", id="message of two lines"),
        pytest.param("x = 1\nif:\n", ":2", "SyntaxError: invalid syntax", id="syntax"),
        pytest.param("import sys\nsys.exit(3)\n", ":2", "the file called sys.exit(3)", id="sys.exit"),
        pytest.param(
            "import no_such_module\n", ":1", "ModuleNotFoundError: No module named 'no_such_module'", id="import"
        ),
        pytest.param(
            "import pingora\npingora.Server().run()\n",
            ":2",
            "server.run() belongs under `if __name__",
            id="served at once",
        ),
    ],
)
def test_an_error_in_the_file_is_one_line_with_its_place(tmp_path, source, place, message):
    file = tmp_path / "broken.py"
    file.write_text(source)
    ended = run("run", str(file))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"pingora: {file}{place}: {message}")
    assert ended.stderr.count("\n") == 1


SERVERS = "import pingora\nedge = pingora.Server()\ninner = pingora.Server()\nport = 80\n"


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (SERVERS, "", "no pingora.Server named 'server'; there is: edge, inner"),
        (SERVERS, ":outer", "no pingora.Server named 'outer'; there is: edge, inner"),
        (SERVERS, ":port", "no pingora.Server named 'port', it is 80; there is: edge, inner"),
        (SERVERS, ":edge", "the server has no proxy: call add_proxy first"),
        ("import pingora\nonly = pingora.Server()\n", "", "the server has no proxy: call add_proxy first"),
        ("port = 80\n", "", "makes no pingora.Server; add one: server = pingora.Server()"),
    ],
)
def test_a_wrong_name_tells_the_names_that_exist(tmp_path, source, name, message):
    file = tmp_path / "names.py"
    file.write_text(source)
    ended = run("run", f"{file}{name}")
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_file_is_a_module_of_its_name_that_others_can_import(tmp_path):
    (tmp_path / "parts.py").write_text("import gate\nname = gate.__name__\n")
    (tmp_path / "gate.py").write_text("import parts\nraise ValueError(parts.name)\n")
    assert run("run", str(tmp_path / "gate.py")).stderr.endswith("ValueError: gate\n")


def test_a_proxy_without_upstream_is_one_line_before_any_worker_starts(tmp_path):
    file = tmp_path / "empty.py"
    file.write_text("import pingora\nserver = pingora.Server()\nserver.add_proxy(pingora.ProxyHttp(), '127.0.0.1:0')\n")
    ended = run("run", str(file), "--workers", "2")
    assert ended.returncode == 2
    assert ended.stderr.startswith("pingora: ProxyHttp has no upstream: ")


@pytest.mark.parametrize(
    "start", [["-m", "pingora", "check"], ["-m", "pingora", "run"], ["-m", "pingora", "run", "--workers", "0"], []]
)
def test_a_server_without_an_address_is_one_line(tmp_path, start):
    file = tmp_path / "nowhere.py"
    file.write_text(
        "import pingora\n"
        "class Edge(pingora.ProxyHttp):\n"
        "    upstreams = pingora.LoadBalancer(['127.0.0.1:1'])\n"
        "server = pingora.Server()\n"
        "server.add_proxy(Edge(), [])\n"
        "if __name__ == '__main__':\n"
        "    server.run()\n"
    )
    ended = subprocess.run([sys.executable, *start, str(file)], capture_output=True, text=True, timeout=20)
    told = 'pingora: the server listens nowhere: give add_proxy an address, such as ":8080"\n'
    assert (ended.returncode, ended.stderr) == (2, told)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "server.add_proxy(proxy, 8080)",
            'TypeError: add_proxy: expected an address such as ":8080", got 8080; write ":8080"',
        ),
        ("server.add_proxy(proxy, [None])", 'TypeError: add_proxy: expected an address such as ":8080", got None'),
        (
            "pingora.Server(trusted='10.0.0.0/8')",
            "TypeError: trusted: expected a list of networks, got '10.0.0.0/8'; write trusted=['10.0.0.0/8']",
        ),
    ],
)
def test_what_a_server_cannot_take_is_one_line_that_says_what_it_takes(tmp_path, line, message):
    file = tmp_path / "nowhere.py"
    file.write_text(f"import pingora\nserver, proxy = pingora.Server(), pingora.ProxyHttp()\n{line}\n")
    ended = run("check", str(file))
    assert (ended.returncode, ended.stderr) == (2, f"pingora: {file}:3: {message}\n")


def test_help_of_run_shows_examples_and_every_option():
    text = run("run", "--help").stdout
    for expected in (
        "--from",
        "--to",
        "--workers N|auto",
        "--access-log",
        "--grace",
        "pingora run gateway.py:edge --workers 4",
    ):
        assert expected in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_curl_is_served_and_sigterm_ends_it_cleanly(origin_factory, tmp_path, workers):
    origin = origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")
    path = tmp_path / "proxy.sock"
    command = [*PINGORA, "run", "--from", f"unix:{path}", "--to", f"http://{origin.address}", "--workers", workers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as proxy:
        try:
            answer = subprocess.run(
                [*CURL, "--unix-socket", str(path), "http://localhost/a?b=c"],
                capture_output=True,
                text=True,
                timeout=30,
            )
            proxy.send_signal(signal.SIGTERM)
            output, errors = proxy.communicate(timeout=20)
        finally:
            proxy.kill()
    assert answer.stdout == "hello\n", answer.stderr
    assert proxy.returncode == 0, errors
    assert '"GET /a?b=c HTTP/1.1" 200 6' in output


@pytest.fixture(scope="module")
def ca():
    return Authority()


class Plain(Running):
    """A `pingora run` without a file."""

    def __init__(self, directory, upstream):
        self.path = directory / "proxy.sock"
        command = [*PINGORA, "run", "--from", f"unix:{self.path}", "--to", upstream, "--workers", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ask(directory, upstream):
    """Send one request through a plain proxy; the body of the answer."""
    proxy = Plain(directory, upstream)
    try:
        text = proxy.text("/a?b=c")
        assert proxy.end()[0] == 0
    finally:
        proxy.process.kill()
    return text


@pytest.mark.parametrize(
    ("upstream", "options", "scheme"),
    [
        ("h2c", "", "http"),
        ("grpc", "", "http"),
        ("grpcs", "?ca=CA", "https"),
        ("https", "?ca=CA&protocol=h2", "https"),
        ("https", "?ca=CA&protocol=h2h1", "https"),
    ],
)
def test_an_upstream_of_http_2_is_asked_by_the_scheme_of_its_url(h2_origin, ca, tmp_path, upstream, options, scheme):
    (tmp_path / "ca.pem").write_bytes(ca.chain)
    said, context = f"{scheme}/a?b=c", None
    if scheme == "https":
        context = ca.server_context(ca.issue("localhost"))
        context.set_alpn_protocols(["h2"])
    length = [(b"content-length", b"%d" % len(said))]
    origin = h2_origin(lambda request: (200, length, request.get(b":scheme") + request.get(b":path"), []), context)
    port = origin.address.partition(":")[2]
    url = f"{upstream}://localhost:{port}{options.replace('CA', f'{tmp_path}/ca.pem')}"
    assert ask(tmp_path, url) == said


@pytest.mark.parametrize(("options", "is_verified"), [("?ca=CA", True), ("?verify=off", True), ("", False)])
def test_an_upstream_of_https_is_asked_if_its_certificate_is_trusted(ca, tmp_path, options, is_verified):
    (tmp_path / "ca.pem").write_bytes(ca.chain)
    with TlsOrigin(ca.server_context(ca.issue("localhost"))) as origin:
        url = f"https://localhost:{origin.port}{options.replace('CA', f'{tmp_path}/ca.pem')}"
        text = ask(tmp_path, url)
    if is_verified:
        assert text == "up"
        assert origin.seen[0]["sni"] == "localhost"
    else:
        assert text != "up"
        assert origin.seen == []


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_sigterm_during_the_start_is_not_lost(tmp_path, workers):
    file = tmp_path / "slow.py"
    file.write_text(
        "import os, signal, sys\n"
        "from pingora import LoadBalancer, ProxyHttp, Server\n"
        "class Early(ProxyHttp):\n"
        "    upstreams = LoadBalancer(['127.0.0.1:1'])\n"
        "class Starting(Server):\n"
        "    def run(self, *arguments, **options):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        super().run(*arguments, **options)\n"
        "if 'zygote' in ' '.join(sys.orig_argv):\n"
        "    os.kill(os.getppid(), signal.SIGTERM)\n"
        "server = Starting()\n"
        f"server.add_proxy(Early(), 'unix:{tmp_path}/early.sock')\n"
    )
    assert run("run", str(file), "--workers", workers).returncode == 0


def waiting_program(directory, body):
    file = directory / "waits.py"
    file.write_text(
        "import asyncio\n"
        "from pingora import LoadBalancer, ProxyHttp, Server\n"
        "class Waits(ProxyHttp):\n"
        "    upstreams = LoadBalancer(['127.0.0.1:1'])\n"
        "    async def worker_start(self):\n"
        f"        {body}\n"
        "server = Server()\n"
        f"server.add_proxy(Waits(), 'unix:{directory}/waits.sock')\n"
    )
    return str(file)


def test_a_worker_start_that_raises_ends_the_only_process_with_code_2(tmp_path):
    ended = run("run", waiting_program(tmp_path, "raise RuntimeError('no database')"), "--workers", "0")
    assert ended.returncode == 2
    assert "waits.py" in ended.stderr, "the traceback says where"
    assert ended.stderr.splitlines()[-1] == "pingora: the server cannot start: RuntimeError: no database"


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_signal_ends_a_server_whose_worker_start_does_not_return(tmp_path, workers):
    program = waiting_program(tmp_path, "print('waits', flush=True); await asyncio.sleep(1000)")
    command = [*PINGORA, "run", program, "--workers", workers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout.readline() == "waits\n"
            proxy.send_signal(signal.SIGTERM)
            assert proxy.wait(30) == 0
        finally:
            proxy.kill()
