"""Reloader: a file that changes while its proxy serves, in one process."""

import asyncio
import contextlib
import sys
import textwrap

import pytest
from pki import Authority

from pingora.config.build import load_config
from pingora.config.reloader import Reloader
from pingora.serving import Serving

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HOOKS = """\
import asyncio
from pingora import ProxyHttp, Response

made, closed, events = [], [], []


class Names(ProxyHttp):
    def __init__(self, name, fails=False, fails_at_start=False):
        if fails:
            raise ValueError("fails")
        self.fails_at_start = fails_at_start
        self.name = name
        self.gate = asyncio.Event()
        made.append(name)

    async def request_filter(self, session, ctx):
        if session.request.path == "/wait":
            await self.gate.wait()
        if session.request.path == "/up":
            return None
        return Response(200, {}, self.name)

    async def worker_start(self):
        if self.fails_at_start:
            raise OSError("no database")
        events.append(f"start {self.name}")

    async def worker_stop(self):
        events.append(f"stop {self.name}")

    async def close(self):
        closed.append(self.name)
        events.append(f"close {self.name}")
"""


class Program:
    """A file, and what serves it on this loop."""

    def __init__(self, directory):
        self.directory = directory
        self.file = directory / "p.toml"
        (directory / "hooks_reload.py").write_text(HOOKS)

    def write(self, text):
        self.file.write_text(textwrap.dedent(text).replace("DIR", str(self.directory)))

    async def start(self, text):
        self.write(text)
        server = load_config(self.file)
        server.bind()
        self.serving = Serving(server, asyncio.get_running_loop(), None)
        await self.serving.start()
        self.serving.accept()
        self.reloader = Reloader(self.serving, server)
        return self.serving

    async def reload(self, text):
        self.write(text)
        problems = await self.reloader.prepare(self.file)
        if not problems:
            self.reloader.commit()
        return problems

    async def connect(self, name="a"):
        return await asyncio.open_unix_connection(str(self.directory / name))


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Program(tmp_path)
    sys.modules.pop("hooks_reload", None)


async def get(connection, target=b"/"):
    reader, writer = connection
    writer.write(GET.replace(b"/", target, 1))
    return await read(reader)


async def until(is_true):
    """Wait for what a task of the proxy brings about; `running` limits the time."""
    while not is_true():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def read(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return (await reader.readexactly(size)).decode()


@contextlib.asynccontextmanager
async def origin(name):
    """Answer every request with a name; yield the address."""

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name.encode()))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


def running(test):
    """Run an asynchronous test to its end and close what serves."""

    def run(program):
        async def main():
            try:
                async with asyncio.timeout(30):
                    await test(program)
            finally:
                program.serving.close()
                program.serving.server.close_listeners()

        asyncio.run(main())

    run.__name__ = test.__name__
    return run


NAMES = """
listeners = ["unix:DIR/a"]
[hook]
class = "hooks_reload:Names"
options = {{name = "{}"}}
[upstreams]
endpoints = ["127.0.0.1:1"]
[limits]
fields = {}
"""


@running
async def test_a_hook_whose_options_stay_keeps_its_object(program):
    await program.start(NAMES.format("one", 64))
    hooks = sys.modules["hooks_reload"]
    client = await program.connect()
    assert await get(client) == "one"
    assert await program.reload(NAMES.format("one", 1)) == []
    client[1].write(GET.replace(b"\r\n\r\n", b"\r\nB: c\r\n\r\n"))
    assert (await client[0].readline()).startswith(b"HTTP/1.1 431 "), "the new limit holds"
    assert (hooks.made, hooks.closed) == (["one"], [])


@running
async def test_other_options_make_another_object_and_the_old_one_is_closed_after_its_last_session(program):
    await program.start(NAMES.format("one", 64))
    hooks = sys.modules["hooks_reload"]
    old = program.serving.server.sites[0].proxy
    waiting, client = await program.connect(), await program.connect()
    waiting[1].write(GET.replace(b"/", b"/wait", 1))
    assert await get(client) == "one"
    assert await program.reload(NAMES.format("two", 64)) == []
    assert await get(client) == "two"
    assert hooks.closed == []
    old.gate.set()
    assert await read(waiting[0]) == "one"
    assert await get(waiting) == "two"
    await until(lambda: hooks.closed == ["one"])
    assert hooks.made == ["one", "two"]
    assert hooks.events == ["start one", "start two", "stop one", "close one"]


@running
async def test_a_hook_that_cannot_start_in_this_process_is_refused(program):
    await program.start(NAMES.format("one", 64))
    hooks = sys.modules["hooks_reload"]
    text = NAMES.format('two", fails_at_start = true, fails = "', 64).replace(', fails = ""', "")
    (problem,) = await program.reload(text)
    assert problem.startswith(f"{program.file}:4:9: hook.class: the hook cannot serve: OSError: no database at ")
    assert "hooks_reload.py:" in problem
    await until(lambda: hooks.closed == ["two"])
    assert hooks.events == ["start one", "close two"]
    assert await get(await program.connect()) == "one"


@running
async def test_a_file_that_is_wrong_changes_nothing(program):
    await program.start(NAMES.format("one", 64))
    hooks = sys.modules["hooks_reload"]
    client = await program.connect()
    for text, message in (
        (NAMES.format("two", 0), ":9:10: limits.fields: expected 1 to 256 fields, got 0"),
        (NAMES.format("two", "64\nx = 1"), ":10:1: limits.x: unknown key"),
        (
            NAMES.format('two", fails = true, name2 = "', 64),
            ':5:40: hook.options.name2: Names takes no such option, did you mean "name"?',
        ),
        (NAMES.format('two", fails = "yes', 64), ":4:9: hook.class: Names() raised ValueError: fails at "),
        (NAMES.format("two", 64).replace("unix:DIR/a", "unix:/no/such/directory"), ": cannot listen on "),
        ("listeners = [", ":1:14: Invalid value"),
    ):
        problems = await program.reload(text)
        assert len(problems) == 1
        assert problems[0].startswith(f"{program.file}{message}")
        assert await get(client) == "one"
    await until(lambda: hooks.closed == ["two"])
    assert hooks.made == ["one", "two"], "only the last but one could be made, and could not listen"


@running
async def test_what_is_dropped_is_closed(program):
    await program.start(NAMES.format("one", 64))
    hooks = sys.modules["hooks_reload"]
    program.write(NAMES.format("two", 64).replace('"unix:DIR/a"', '"unix:DIR/a", "unix:DIR/b"'))
    assert await program.reloader.prepare(program.file) == []
    program.reloader.drop()
    with pytest.raises(ConnectionRefusedError):
        await program.connect("b")
    assert await get(await program.connect()) == "one"
    await until(lambda: hooks.closed == ["two"])
    assert hooks.events == ["start one", "start two", "stop two", "close two"]


BALANCED = """
listeners = ["unix:DIR/a"]
[upstreams]
endpoints = [{}]
{}
"""


@running
async def test_endpoints_that_stay_keep_their_state(program):
    async with origin("x") as x, origin("y") as y, origin("z") as z:
        await program.start(BALANCED.format(f'"{x}", "{y}"', ""))
        balancer = program.serving.server.sites[0].balancer
        balancer.set_enabled(x, False)
        kept = balancer.endpoints[1]
        client = await program.connect()
        assert {await get(client) for _ in range(4)} == {"y"}
        assert await program.reload(BALANCED.format(f'"{z}", {{address = "{y}", weight = 3}}, "{x}"', "")) == []
        assert program.serving.server.sites[0].balancer is balancer
        assert balancer.endpoints[1] is kept
        assert (kept.weight, kept.started) == (3, 4)
        answers = [await get(client) for _ in range(8)]
        assert (answers.count("y"), answers.count("z")) == (6, 2)
        assert await program.reload(BALANCED.format(f'"{x}", "{y}"', 'selection = "ketama"\nkey = "uri"')) == []
        assert program.serving.server.sites[0].balancer is not balancer
        assert {await get(client, b"/%d" % number) for number in range(20)} == {"y"}


@running
async def test_upstreams_and_retry_come_and_go_with_the_file_and_a_hook_sees_them(program):
    async with origin("x") as x:
        with_upstreams = NAMES.format("one", 64).replace("127.0.0.1:1", x) + "[retry]\nattempts = 1\n"
        await program.start(with_upstreams)
        proxy = program.serving.server.sites[0].proxy
        client = await program.connect()
        assert await get(client, b"/up") == "x"
        assert proxy.retry.attempts == 1
        assert await program.reload(NAMES.format("one", 64).replace("127.0.0.1:1", x)) == []
        assert program.serving.server.sites[0].proxy is proxy
        assert proxy.retry.attempts == 3
        assert await get(client, b"/up") == "x"


@running
async def test_error_pages_follow_the_file(program):
    page = program.directory / "page.html"
    page.write_text("first")
    text = 'listeners = ["unix:DIR/a"]\nupstreams.endpoints = ["127.0.0.1:1"]\nerror_pages.502 = "page.html"\n'
    await program.start(text)
    client = await program.connect()
    assert await get(client) == "first"
    page.write_text("second")
    assert await program.reload(text) == []
    assert await get(client) == "second"


@running
async def test_a_new_certificate_is_shown_from_the_next_connection_on(program):
    authority = Authority()
    first, second = authority.issue("a.test"), authority.issue("a.test")
    first.write(program.directory, "a")
    text = (
        'listeners = [{address = "unix:DIR/a", tls.certificates = [{chain = "a.pem", key = "a.key"}]}]\n'
        'upstreams.endpoints = ["127.0.0.1:1"]\n'
    )
    await program.start(text)

    async def connect():
        path = str(program.directory / "a")
        return await asyncio.open_unix_connection(path, ssl=authority.trusts(), server_hostname="a.test")

    def shown(connection):
        return connection[1].get_extra_info("ssl_object").getpeercert(binary_form=True)

    client = await connect()
    assert shown(client) == first.der
    second.write(program.directory, "a")
    assert await program.reload(text) == []
    assert shown(await connect()) == second.der
    assert "502" in await get(client)
    (program.directory / "a.key").write_text("nothing")
    (problem,) = await program.reload(text)
    assert ": listeners[0].tls.certificates[0]: key " in problem
    assert shown(await connect()) == second.der
    assert await program.reload(text.replace(', tls.certificates = [{chain = "a.pem", key = "a.key"}]', "")) == []
    assert "502" in await get(await program.connect())
    assert "502" in await get(client)
