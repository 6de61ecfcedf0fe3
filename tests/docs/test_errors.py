"""Every message that docs/errors.md explains is one that pingora gives."""

import asyncio
import ctypes
import logging
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conversations import GET, wait_until

from pingora import HttpPeer, Limits, LoadBalancer, ProxyHttp, Response, replaced

ROWS = re.findall(
    r"^\| `([^`|]+)` \| \S.* \|$", (Path(__file__).parents[2] / "docs" / "errors.md").read_text(), re.MULTILINE
)
PLAIN = ["--to", "http://127.0.0.1:1"]
HEAD = "from pingora import LoadBalancer, ProxyHttp, Server\n"
CLASS = HEAD + "class Gateway(ProxyHttp):\n"
UPSTREAM = "    upstreams = LoadBalancer(['127.0.0.1:1'])\n"
SERVED = "server = Server()\nserver.add_proxy(Gateway(), '127.0.0.1:0')\n"
TOML = 'listeners = ["127.0.0.1:0"]\n'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# What to type, by the message; BUSY is an address where somebody listens, DIR an empty directory.
COMMANDS = {
    "say what to serve: FILE.py, FILE.toml, or --from ADDR and --to URL": ["run", "--from", ":0"],
    "no such file: gateway, did you mean gateway.py?": ["run", "gateway"],
    "… is a directory; name a FILE.py or FILE.toml in it": ["run", "DIR"],
    "cannot listen on '…': Address already in use; end what listens there": ["run", "--from", "BUSY", *PLAIN],
    "cannot listen on '…': Cannot assign requested address; this machine has no such address": [
        *("run", "--from", "203.0.113.7:0", *PLAIN)
    ],
    "cannot listen on '…': Permission denied; choose a port from 1024 on": ["run", "--from", ":1", *PLAIN],
    "cannot listen on '…': No such file or directory; make its directory first": [
        *("run", "--from", "unix:/no/such/directory", *PLAIN)
    ],
    "cannot listen on '8080': address '8080': expected 'host:port'…; write :8080": ["run", "--from", "8080", *PLAIN],
    "not 'localhost'; write 127.0.0.1": ["run", "--from", "localhost:8080", *PLAIN],
    "port 80800 is outside …": ["run", "--from", ":80800", *PLAIN],
    "cannot resolve '…': …; correct the name": ["run", "--from", ":0", "--to", "http://app.invalid:80"],
    "certificate …: No such file or directory; give the path of a PEM file": [
        *("run", "--from", "tls://:0?cert=chain.pem&key=key.pem", *PLAIN)
    ],
    "it needs a certificate: tls://:8443?cert=FILE&key=FILE": ["run", "--from", "tls://:8443", *PLAIN],
    "no instance runs": ["status"],
    "no instance answers at …": ["status", "--control", "DIR/none.sock"],
}
PROGRAMS = {
    "gateway.py:3: SyntaxError: expected ':'": CLASS + "    def __init__(self)\n        pass\n",
    "gateway.py:5: RuntimeError: no database": CLASS
    + "    def __init__(self):\n        self.upstreams = None\n        raise RuntimeError('no database')\n"
    + SERVED,
    "gateway.py makes no pingora.Server; add one: server = pingora.Server()": HEAD,
    "the server has no proxy: call add_proxy first": HEAD + "server = Server()\n",
    "add_proxy: expected a ProxyHttp or a TcpProxy, got <class …>": CLASS
    + "    pass\n"
    + SERVED.replace("Gateway()", "Gateway"),
    "has no upstream: set self.upstreams to a LoadBalancer or override upstream_peer": CLASS + "    pass\n" + SERVED,
    "upstreams: expected a LoadBalancer, got list: LoadBalancer([...])": CLASS
    + "    upstreams = ['127.0.0.1:1']\n"
    + SERVED,
    "hook_timeouts: 'requst_filter' is no hook of a request, did you mean 'request_filter'?": CLASS
    + UPSTREAM
    + "    hook_timeouts = {'requst_filter': 1.0}\n"
    + SERVED,
    "modules: expected objects, got the class Guard: Guard()": (
        "from pingora import HttpModule\nclass Guard(HttpModule): ...\n"
        + CLASS
        + UPSTREAM
        + "    modules = [Guard]\n"
        + SERVED
    ),
    "retry: expected a RetryPolicy, got …: RetryPolicy(attempts=2)": CLASS + UPSTREAM + "    retry = {}\n" + SERVED,
    "worker_start is awaited: write async def worker_start, without yield": CLASS
    + UPSTREAM
    + "    def worker_start(self): ...\n"
    + SERVED,
    "upstreams: Ketama needs a key, such as LoadBalancer([...], Ketama(), key='client_ip'), "
    "or an upstream_peer that gives one": "from pingora import Ketama\n"
    + CLASS
    + "    upstreams = LoadBalancer(['127.0.0.1:1'], Ketama())\n"
    + SERVED,
    "endpoints: expected a list of addresses, got the text '…'": CLASS
    + "    upstreams = LoadBalancer('127.0.0.1:1')\n"
    + SERVED,
    "Guard.early_request_filter would never run, put it into the proxy's class or give it another name": (
        "from pingora import HttpModule\n" + CLASS + UPSTREAM + "    class Guard(HttpModule):\n"
        "        def early_request_filter(self, session, ctx): ...\n"
        "    modules = [Guard()]\n" + SERVED
    ),
    "Gateway.request_filter: takes (self, session), expected (self, session, ctx)": CLASS
    + UPSTREAM
    + "    def request_filter(self, session): ...\n"
    + SERVED,
    "server.run() belongs under": HEAD + "Server().run()\n",
}
FILES = {
    'pingora.toml:1:1: upstream: unknown key, did you mean "upstreams"?': 'upstream.endpoints = ["127.0.0.1:1"]\n'
    + TOML,
    "listeners[0]: expected 'host:port' without a scheme": 'listeners = ["tls://:8443?cert=a.pem&key=a.pem"]\n',
    "Unclosed array": 'listeners = ["127.0.0.1:0"\n',
    "hook: there is no module … beside this file or on the path": TOML + 'hook = "nothing:Gateway"\n',
}


class Proxy(ProxyHttp):
    """One upstream; each class below makes a mistake."""

    def __init__(self, origin):
        self.upstreams = LoadBalancer([origin])


class ReturnsText(Proxy):
    def request_filter(self, session, ctx):
        return "hello"


class ReturnsAddress(Proxy):
    def upstream_peer(self, session, ctx):
        return "127.0.0.1:9001"


class FiltersToText(Proxy):
    def response_body_filter(self, session, chunk, end, ctx):
        return "text"


class ForgetsAwait(Proxy):
    async def request_filter(self, session, ctx):
        return Response(200, body=bytes(len(session.read_body())))


class DropsBody(Proxy):
    async def request_filter(self, session, ctx):
        session.read_body()


class WritesNumber(Proxy):
    def response_filter(self, session, response, ctx):
        response.headers["x-number"] = 3


class WritesLength(Proxy):
    def response_filter(self, session, response, ctx):
        response.headers["content-length"] = "3"


class ForgetsOwnAwait(Proxy):
    async def note(self):
        pass

    async def request_filter(self, session, ctx):
        self.note()


class Misspelt(Proxy):
    def requst_filter(self, session, ctx):
        pass

    def request_filter_of_mine(self):
        pass


class Misplaced(Proxy):
    def __init__(self, origin):
        super().__init__(origin)
        self.request_filter = lambda session, ctx: Response(403)


class Gateway(Proxy):
    has_told = staticmethod(bool)

    def request_filter(self, session, ctx):
        while not self.has_told():
            time.sleep(0.01)


class Nobody(Proxy):
    def upstream_peer(self, session, ctx):
        return HttpPeer("127.0.0.1:1")


HOOKS = {
    "request_filter: expected None or a Response, got 'hello'; "
    "return a Response to answer, nothing to go on": ReturnsText,
    "upstream_peer: expected an HttpPeer, got '127.0.0.1:9001'; "
    'return HttpPeer("127.0.0.1:9001"), or an endpoint in it': ReturnsAddress,
    "response_body_filter: expected None or bytes, got str; return bytes in its place": FiltersToText,
    "is an await missing?": ForgetsAwait,
    "session.read_body() without await for …: the hook went on without the body": DropsBody,
    "value of a header must be str or bytes, not int": WritesNumber,
    "header 'content-length' cannot be written": WritesLength,
    "Misspelt.requst_filter is no hook, did you mean request_filter?": Misspelt,
    "Misplaced.request_filter was set on the object and is not called, write it as a method of the class": Misplaced,
    "hook Gateway.request_filter has blocked the event loop for … s (await, or use asyncio.to_thread), at …": Gateway,
    "connect_failed, status 502": Nobody,
    "hook_raised, status 500": ReturnsText,
}
# The end of the line that says which hook raised.
REMEDIES = {
    "; give it a text, such as str(number)": WritesNumber,
    "; leave it to the proxy: take this line out of the hook": WritesLength,
}
NEVER_AWAITED = "RuntimeWarning: coroutine '…' was never awaited"
# Number of workers, by the message of a `worker_start` that raises.
STARTS = {
    "no worker became ready in 5 tries, correct what stops it: the last one …": "1",
    "the server cannot start: …": "0",
}
SLOW_START = "Gateway.worker_start has not returned after … s"
SANITIZER = ("LD_PRELOAD", "PYTHONMALLOC", "ASAN_OPTIONS", "UBSAN_OPTIONS")  # without them its build does not start
PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE = 24, 10  # <linux/prctl.h>, <linux/capability.h>
UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
NO_HOST = "refused: no_host, status 400"


def says(text, message):
    """Whether `text` has the message of a row."""
    return re.search(".*".join(map(re.escape, message.split("…"))), text) is not None


def run(directory, *arguments):
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "XDG_RUNTIME_DIR": str(directory)}
    environment |= {name: os.environ[name] for name in SANITIZER if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "pingora", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=directory,
        env=environment,
        preexec_fn=drop_right_to_privileged_ports,
    )


def drop_right_to_privileged_ports():
    """What root has and others have not."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0)


def test_the_document_explains_what_is_tested_here_and_no_more():
    assert sorted(ROWS) == sorted([*COMMANDS, *PROGRAMS, *FILES, *HOOKS, *STARTS, SLOW_START, NO_HOST, NEVER_AWAITED])


@pytest.mark.parametrize("message", STARTS)
def test_a_worker_start_that_raises_is_told_in_the_last_line(tmp_path, message):
    raises = "    async def worker_start(self):\n        raise RuntimeError('no database')\n"
    (tmp_path / "gateway.py").write_text(CLASS + UPSTREAM + raises + SERVED)
    ended = run(tmp_path, "run", "gateway.py", "--workers", STARTS[message])
    assert ended.returncode == 2
    assert says(ended.stderr.splitlines()[-1], message)


def test_a_worker_start_that_takes_long_is_told(caplog, monkeypatch):
    class Gateway(ProxyHttp):
        async def worker_start(self):
            await asyncio.sleep(0.2)

    monkeypatch.setattr(replaced, "WORKER_START_S", 0.05)
    asyncio.run(replaced.start_proxy(Gateway()))
    assert says(caplog.text, SLOW_START)


@pytest.mark.parametrize("message", COMMANDS)
def test_a_command_that_cannot_be_done_says_why_in_a_line(tmp_path, message):
    (tmp_path / "gateway.py").touch()
    if "Permission denied" in message and int(UNPRIVILEGED.read_text()) <= 1:
        pytest.skip("every port is everybody's here")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = {"BUSY": f"127.0.0.1:{listener.getsockname()[1]}"}
        arguments = [words.get(word, word).replace("DIR", str(tmp_path)) for word in COMMANDS[message]]
        ended = run(tmp_path, *arguments)
    assert ended.returncode in (1, 2)
    assert says(ended.stderr, message), ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("message", [*PROGRAMS, *FILES])
def test_a_file_that_cannot_be_served_says_each_fault_in_a_line(tmp_path, message):
    name = "gateway.py" if message in PROGRAMS else "pingora.toml"
    (tmp_path / name).write_text({**PROGRAMS, **FILES}[message])
    ended = run(tmp_path, "check", name)
    assert ended.returncode == 2
    assert says(ended.stderr, message), ended.stderr
    lines = ended.stderr.splitlines()
    if message in PROGRAMS:
        assert len(lines) == 1, ended.stderr
    assert [line for line in lines if message in FILES and not re.match(r"pingora\.toml:\d+:\d+: \S", line)] == []


@pytest.mark.parametrize("message", HOOKS)
def test_a_mistake_in_a_hook_is_told_in_the_error_log(proxy_factory, origin_factory, caplog, message):
    proxy = HOOKS[message](origin_factory(OK).address)
    proxy.has_told = lambda: says(caplog.text, message)
    served = proxy_factory(proxy, Limits(blocked_after=0.05) if isinstance(proxy, Gateway) else None)
    served.exchange(GET)
    wait_until(lambda: says(caplog.text, message))
    assert caplog.text.count(" is no hook") == isinstance(proxy, Misspelt)


@pytest.mark.parametrize("remedy", REMEDIES)
def test_a_header_that_cannot_be_written_is_told_with_what_to_do(proxy_factory, origin_factory, caplog, remedy):
    proxy_factory(REMEDIES[remedy](origin_factory(OK).address)).exchange(GET)
    wait_until(lambda: "hook_raised" in caplog.text)
    assert re.search(rf"hook response_filter raised for .*{re.escape(remedy)}\n", caplog.text)


def test_a_coroutine_that_a_hook_does_not_await_is_told_by_python(recwarn, proxy_factory, origin_factory):
    assert b" 200 " in proxy_factory(ForgetsOwnAwait(origin_factory(OK).address)).exchange(GET)
    [warning] = [warning for warning in recwarn if warning.category is RuntimeWarning]
    assert says(f"RuntimeWarning: {warning.message}", NEVER_AWAITED)


def test_a_result_that_will_not_do_is_told_in_one_line_and_a_traceback_begins_in_the_hook(proxy_factory, caplog):
    proxy_factory(ReturnsText("127.0.0.1:1")).exchange(GET)
    wait_until(lambda: "hook_raised" in caplog.text)
    assert "Traceback" not in caplog.text
    proxy_factory(ForgetsAwait("127.0.0.1:1")).exchange(GET)
    wait_until(lambda: caplog.text.count("hook_raised") == 2)
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.exc_info[2].tb_frame.f_code.co_name == "request_filter"


def test_a_request_without_host_is_told_in_the_error_log(proxy_factory, caplog):
    caplog.set_level(logging.WARNING)
    assert b" 400 " in proxy_factory(Proxy("127.0.0.1:1")).exchange(b"GET / HTTP/1.1\r\n\r\n")
    wait_until(lambda: says(caplog.text, NO_HOST))
