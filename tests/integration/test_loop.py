"""The loop of a worker, whose waiting the core does: what asyncio promises holds, beside traffic and without it."""

import asyncio
import os
import signal
import socket
import threading

import pytest
import uvloop

import pingora
from pingora import HttpModule, LoadBalancer, ProxyHttp, Response, Server
from pingora.loop import Loop, loop_for, run

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Hello(ProxyHttp):
    """Answers by a hook, which does what `act` says first."""

    upstreams = LoadBalancer(["127.0.0.1:9"])  # never asked

    def __init__(self, act=lambda: None):
        self.act = act

    def request_filter(self, session, ctx):
        self.act()
        return Response(200, {}, b"hi")


def client_of(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def answered(client):
    """Ask once; whether the whole answer came."""
    client.sendall(REQUEST)
    said = b""
    while not said.endswith(b"\r\n\r\nhi"):
        got = client.recv(4096)
        if not got:
            return False
        said += got
    return True


def asks(address, until):
    """A thread that asks on one connection until the event is set; gives the thread."""

    def work():
        with client_of(address) as client:
            while not until.is_set():
                assert answered(client)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def with_serving(act, check, busy, loop_factory=Loop):
    """Run `check(loop)` beside a proxy, while a client asks without pause if `busy`; give what it returned."""
    found = []

    async def main():
        loop = asyncio.get_running_loop()
        async with pingora.serve(Hello(act), "127.0.0.1:0") as serving:
            until = threading.Event()
            thread = asks(serving.address, until) if busy else None
            try:
                found.append(await check(loop, serving.address))
            finally:
                until.set()
                if thread:
                    await asyncio.to_thread(thread.join)

    run(loop_factory, main())
    return found[0]


busy_or_not = pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])


@busy_or_not
def test_timers_sleeps_and_callbacks_of_other_threads(busy):
    async def check(loop, address):
        fired = []
        loop.call_later(0.02, fired.append, "later")
        loop.call_soon(fired.append, "soon")
        await asyncio.sleep(0.05)
        woken = asyncio.Event()
        await asyncio.to_thread(loop.call_soon_threadsafe, woken.set)
        await asyncio.wait_for(woken.wait(), 5)
        return fired

    assert with_serving(lambda: None, check, busy) == ["soon", "later"]


@busy_or_not
def test_descriptors_and_streams_of_asyncio(busy):
    async def check(loop, address):
        async def greet(reader, writer):
            writer.write(b"hello\n")
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            line = await asyncio.wait_for(reader.readline(), 5)
            writer.close()
        ours, theirs = socket.socketpair()
        readable = asyncio.Event()
        loop.add_reader(ours, readable.set)
        theirs.send(b"x")
        await asyncio.wait_for(readable.wait(), 5)
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
        return line

    assert with_serving(lambda: None, check, busy) == b"hello\n"


@busy_or_not
def test_signals(busy):
    async def check(loop, address):
        seen = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, seen.set)
        plain = []
        before = signal.signal(signal.SIGUSR2, lambda number, frame: plain.append(number))
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(seen.wait(), 5)
        os.kill(os.getpid(), signal.SIGUSR2)
        await asyncio.sleep(0)
        signal.signal(signal.SIGUSR2, before)
        loop.remove_signal_handler(signal.SIGUSR1)
        return plain

    assert with_serving(lambda: None, check, busy) == [signal.SIGUSR2]


def test_what_a_hook_asks_of_the_loop_is_done_without_another_event():
    """What ends the wait of the core is tested with the reactor."""

    async def check(loop, address):
        def act():
            loop.call_soon(done.append, "soon")
            loop.call_later(0.01, done.append, "later")
            loop.call_later(0.02, ended.set)

        done, ended = [], asyncio.Event()
        acts.append(act)
        assert await asyncio.to_thread(lambda: answered(client_of(address)))
        await ended.wait()
        return done

    acts = []
    assert with_serving(lambda: acts[0](), check, False) == ["soon", "later"]


def test_an_exception_of_a_signal_handler_ends_the_loop():
    class Enough(Exception):
        pass

    def enough(number, frame):
        raise Enough

    async def check(loop, address):
        before.append(signal.signal(signal.SIGUSR2, enough))
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR2)).start()  # in the loop, not in a callback
        await asyncio.Event().wait()

    before = []
    try:
        with pytest.raises(Enough):
            with_serving(lambda: None, check, False)
    finally:
        signal.signal(signal.SIGUSR2, before[0])


def test_threads_run_beside_a_busy_worker():
    """The wait lets go of the GIL each time, also if there is always something to do."""

    async def check(loop, address):
        return await asyncio.to_thread(sum, range(200_000))

    assert with_serving(lambda: None, check, True) == sum(range(200_000))


def test_two_services_on_one_loop():
    """The first does the waiting, the second is nested; when the first has gone the loop goes on."""

    async def main():
        async with pingora.serve(Hello(), "127.0.0.1:0") as first:
            async with pingora.serve(Hello(), "127.0.0.1:0") as second:
                for serving in (first, second):
                    assert await asyncio.to_thread(lambda to=serving.address: answered(client_of(to)))
            assert await asyncio.to_thread(lambda: answered(client_of(first.address)))
        await asyncio.sleep(0.01)
        async with pingora.serve(Hello(), "127.0.0.1:0") as third:
            assert await asyncio.to_thread(lambda: answered(client_of(third.address)))

    run(Loop, main())


def test_the_loop_is_chosen_by_what_the_hooks_are():
    class Waits(Hello):
        async def response_filter(self, session, response, ctx):
            pass

    class Slow(HttpModule):
        async def request_filter(self, session, ctx):
            pass

    class WaitsInAModule(Hello):
        modules = (Slow(),)

    assert loop_for([Hello()]) is Loop
    assert loop_for([WaitsInAModule()]) is uvloop.new_event_loop
    assert loop_for([Hello(), Waits()]) is uvloop.new_event_loop
    server = Server()
    server.add_proxy(Hello(), "127.0.0.1:0")
    assert server.choose_loop() is Loop
    server.loop_factory = asyncio.SelectorEventLoop
    assert server.choose_loop() is asyncio.SelectorEventLoop


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.SelectorEventLoop], ids=["uvloop", "asyncio"])
def test_a_loop_of_another_kind(loop_factory):
    async def check(loop, address):
        await asyncio.sleep(0.01)
        assert not isinstance(loop, Loop)
        return await asyncio.to_thread(lambda: answered(client_of(address)))

    assert with_serving(lambda: None, check, True, loop_factory)
