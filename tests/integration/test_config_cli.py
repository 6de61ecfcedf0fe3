"""`pingora run FILE.toml`, `pingora check`, and SIGHUP, as an operator has them."""

import subprocess

import pytest
from configured import PINGORA, Connection, starting, write
from load import Asking

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def run(*arguments, cwd=None):
    return subprocess.run([*PINGORA, *arguments], capture_output=True, text=True, timeout=30, cwd=cwd)


@pytest.fixture
def start(tmp_path):
    with starting(tmp_path) as start:
        yield start


def test_check_says_in_a_line_what_would_be_served(tmp_path):
    write(tmp_path, 'listeners = ["127.0.0.1:1", ":2"]', 'upstreams.endpoints = ["127.0.0.1:3", "127.0.0.1:4"]')
    ended = run("check", "pingora.toml", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "pingora.toml: ok, ProxyHttp on 127.0.0.1:1, :2 to 2 upstreams by RoundRobin\n"


def test_check_of_a_program_says_what_it_serves(tmp_path):
    (tmp_path / "edge.py").write_text(
        "import pingora\n"
        "class Edge(pingora.ProxyHttp):\n"
        "    upstreams = pingora.LoadBalancer(['127.0.0.1:1'], pingora.Ketama(), key='uri')\n"
        "class Pages(pingora.ProxyHttp):\n"
        "    def upstream_peer(self, session, ctx): ...\n"
        "one = pingora.Server()\n"
        "one.add_proxy(Edge(), ':80')\n"
        "one.add_proxy(Pages(), ['unix:/run/pages', ':81'])\n"
        "two = pingora.Server()\n"
        "two.add_proxy(Edge(), 'nonsense')\n"
    )
    ended = run("check", "edge.py:one", cwd=tmp_path)
    assert ended.stdout == "edge.py:one: ok, Edge on :80 to 1 upstream by Ketama; Pages on unix:/run/pages, :81\n"
    assert ended.returncode == 0
    ended = run("check", "edge.py:two", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("pingora: cannot listen on 'nonsense': ")


@pytest.mark.parametrize("verb", ["check", "run"])
def test_all_faults_are_told_each_in_a_line_with_code_2(tmp_path, verb):
    write(tmp_path, 'listeners = ["127.0.0.1:0"]', "workers = -1", "[limits]", "head_timout = 3", 'fields = "a"')
    ended = run(verb, "pingora.toml", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines() == [
        "pingora.toml:1:1: upstreams: missing: without a hook there is nothing else that says where to send",
        'pingora.toml:2:11: workers: expected "auto" or a whole number from 0 to 256, got -1',
        'pingora.toml:4:1: limits.head_timout: unknown key, did you mean "head_timeout"?',
        'pingora.toml:5:10: limits.fields: expected a whole number, got "a"',
    ]


def test_check_finds_what_run_could_not_do(tmp_path):
    served = ('listeners = ["127.0.0.1:0"]', 'upstreams.endpoints = ["127.0.0.1:1"]')
    write(tmp_path, *served, 'pid_file = "no/p.pid"', 'control = "no/c"', 'logs.access_file = "."')
    ended = run("check", "pingora.toml", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.splitlines()) == (
        2,
        [
            "pingora.toml:3:12: pid_file: there is no directory no; make it first",
            "pingora.toml:4:11: control: there is no directory no; make it first",
            "pingora.toml:5:20: logs.access_file: it is a directory; name a file in it",
        ],
    )
    write(tmp_path, *served, "workers = 0", 'group = "root"', 'pid_file = "no/p.pid"')
    ended = run("check", "pingora.toml", cwd=tmp_path)
    told = "pingora.toml:4:9: group: it is for worker processes, and workers = 0; leave one of them out\n"
    assert (ended.returncode, ended.stderr) == (2, told)


def test_check_finds_threads_of_a_program(tmp_path):
    (tmp_path / "edge.py").write_text(
        "import pingora, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True, name='poller').start()\n"
        "class Edge(pingora.ProxyHttp):\n"
        "    upstreams = pingora.LoadBalancer(['127.0.0.1:1'])\n"
        "server = pingora.Server()\n"
        "server.add_proxy(Edge(), ':80')\n"
    )
    ended = run("check", "edge.py", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("pingora: the program has started threads while it was loaded: poller; ")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--pid-file", "cannot write the pid file no/p: there is no directory no; make it first"),
        ("--control", "cannot make the control socket no/p: No such file or directory; make its directory first"),
    ],
)
def test_a_directory_that_is_not_there_is_told_of_the_option_that_named_it(tmp_path, option, told):
    ended = run("run", "--from", "127.0.0.1:0", "--to", "http://127.0.0.1:1", option, "no/p", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (2, f"pingora: {told}\n")


def test_a_file_that_is_not_there_is_one_line():
    ended = run("run", "nothing.toml")
    assert (ended.returncode, ended.stderr) == (2, "nothing.toml: No such file or directory\n")


@pytest.mark.parametrize(("arguments", "is_json"), [((), True), (("--access-log", "combined"), False)])
def test_the_command_line_holds_instead_of_the_file(tmp_path, start, origin_factory, arguments, is_json):
    origin = origin_factory(OK)
    file = write(
        tmp_path,
        'listeners = ["unix:DIR/a"]',
        "workers = 0",
        f'upstreams.endpoints = ["{origin.address}"]',
        'logs.access = "json"',
    )
    running = start(file, *arguments)
    assert Connection(tmp_path / "a").get() == b"ok"
    running.stop()
    (line,) = running.output
    assert line.startswith("{") == is_json


@pytest.mark.parametrize("workers", ["0", "2"])
def test_no_request_fails_during_twenty_reloads(tmp_path, start, origin_factory, workers):
    origins = [origin_factory(OK), origin_factory(OK)]

    def rewrite(turn):
        return write(
            tmp_path,
            'listeners = ["unix:DIR/a", "unix:DIR/b"]' if turn % 2 else 'listeners = ["unix:DIR/a"]',
            f'upstreams.endpoints = ["{origins[turn % 2].address}"]',
            f"limits.fields = {64 + turn}",
            'logs.access = "off"',
        )

    running = start(rewrite(0), "--workers", workers)
    assert Connection(tmp_path / "a").get() == b"ok"
    with Asking(lambda: Connection(tmp_path / "a"), b"ok", 4) as asking:
        for turn in range(1, 21):
            rewrite(turn)
            running.reload()
            running.expect("has taken over in place")
            asking.wait_for_all()
    assert asking.failures == []
    assert all(origin.heads for origin in origins)
    running.stop()


def test_a_file_with_faults_is_refused_and_what_runs_goes_on(tmp_path, start, origin_factory):
    first, second = origin_factory(OK), origin_factory(OK)
    file = write(tmp_path, 'listeners = ["unix:DIR/a"]', f'upstreams.endpoints = ["{first.address}"]')
    running = start(file, "--workers", "0")
    client = Connection(tmp_path / "a")
    assert client.get() == b"ok"
    write(tmp_path, 'listeners = ["unix:DIR/a"]', f'upstreams.endpoints = ["{second.address}"]', "limits.fields = 0")
    running.reload()
    assert f"{file}:3:17: limits.fields: expected 1 to 256 fields, got 0" in running.expect("limits.fields")
    assert "was not reloaded, what was served before goes on" in running.expect("not reloaded")
    assert client.get() == b"ok"
    assert (len(first.heads), len(second.heads)) == (2, 0)
    write(tmp_path, 'listeners = ["unix:DIR/a"]', f'upstreams.endpoints = ["{second.address}"]')
    running.reload()
    running.expect("in place")
    assert client.get() == b"ok"
    assert (len(first.heads), len(second.heads)) == (2, 1)
    running.stop()


def test_workers_refuse_a_file_with_faults_and_go_on(tmp_path, start, origin_factory):
    origin = origin_factory(OK)
    file = write(tmp_path, 'listeners = ["unix:DIR/a"]', f'upstreams.endpoints = ["{origin.address}"]', "workers = 2")
    running = start(file)
    client = Connection(tmp_path / "a")
    assert client.get() == b"ok"
    write(tmp_path, 'listeners = ["unix:DIR/a"]', "[limits]", "fields = 0", "x = 1")
    running.reload()
    running.expect("reload refused: the configuration cannot be used:")
    assert [running.lines.get(timeout=20) for _ in range(3)] == [
        f"{file}:1:1: upstreams: missing: without a hook there is nothing else that says where to send\n",
        f"{file}:3:10: limits.fields: expected 1 to 256 fields, got 0\n",
        f"{file}:4:1: limits.x: unknown key\n",
    ]
    assert client.get() == b"ok"
    running.stop()


def test_the_level_of_the_error_log_follows_the_file(tmp_path, start):
    def rewrite(level):
        return write(
            tmp_path,
            'listeners = ["unix:DIR/a"]',
            'upstreams.endpoints = ["127.0.0.1:1"]',
            f'logs.level = "{level}"',
        )

    running = start(rewrite("error"), "--workers", "0")
    assert running.lines.get(timeout=20).startswith(f"pingora: listening on unix:{tmp_path}/a with 0 workers, process ")
    client = Connection(tmp_path / "a")
    assert b"502" in client.get("/unseen")
    rewrite("info")
    running.reload()
    assert "in place" in running.lines.get(timeout=20), "the warning before it was not written"
    assert b"502" in client.get("/seen")
    running.expect("GET /seen")
    running.stop()
