"""Clients and an origin that do anything in any order, around one live proxy: what must hold whatever they do.

Each answer belongs to its request and is whole or visibly cut; the origin gets what the client sent; no request that is
not idempotent reaches it twice; at the end nothing is left: no session, no connection, no descriptor, no buffer.
"""

import logging
import os
import socket
import time

import pytest
from hand_driven import IDEMPOTENT, Scene, content
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from pingora import LoadBalancer, ProxyHttp, RetryPolicy
from pingora.testing import RunningProxy
from pingora_c.mem import buffer_pool

SIZES = st.sampled_from([0, 0, 1, 10, 5000, 70_000, 300_000])
PARTS = st.sampled_from([1, 7, 100, 5000, 100_000, 1 << 30, 1 << 30])
PROMPT_S = 10
settings_of_ci = settings(
    max_examples=80, stateful_step_count=40, suppress_health_check=list(HealthCheck), print_blob=False
)


class Balanced(ProxyHttp):
    """The same origin under three addresses, so that there is a next one to try."""

    retry = RetryPolicy(lost=True)

    def __init__(self, port):
        self.upstreams = LoadBalancer([f"127.0.0.{i}:{port}" for i in (1, 2, 3)])


class Machine(RuleBasedStateMachine):
    proxy = listener = None

    def __init__(self):
        super().__init__()
        self.scene = Scene(self.proxy, self.listener)
        self.n_requests = 0
        self.before = self.held()

    def held(self):
        """What the proxy holds: sessions, connections of clients, sockets, descriptors, buffers."""
        (service,) = self.proxy.serving.services
        lent = buffer_pool.stats()["lent_bytes"]
        return service.n_active, service.n_connections, self.proxy.serving.reactor.n_open, n_descriptors(), lent

    # -- clients. What a rule finds depends on the proxy, so no rule has a precondition: it may find nothing to do.

    def able_client(self, which):
        able = [one for one in self.scene.clients if one.is_open and not one.has_ended_side]
        return able[which % len(able)] if able else None

    @rule()
    def connect(self):
        if len(self.scene.clients) < 12:
            self.scene.connect()

    @rule(
        which=st.integers(0, 5),
        methods=st.lists(st.sampled_from(["GET", "POST", "POST", "PUT", "HEAD"]), min_size=1, max_size=4),
        size=SIZES,
        is_chunked=st.booleans(),
        parts=st.integers(1, 5),
        extra=st.sampled_from([None, None, None, None, ("Connection", "close"), ("Expect", "100-continue")]),
        part=PARTS,
    )
    def ask(self, which, methods, size, is_chunked, parts, extra, part):
        client = self.able_client(which)
        if client is None or which == 5:
            self.connect()
            client = self.scene.clients[-1]
        if not client.is_open or client.has_ended_side or len(client.requests) > 12:
            return
        for method in methods:
            has_body = method in ("POST", "PUT")
            fields = [extra] if extra and (has_body or extra[0] == "Connection") else []
            client.ask(self.n_requests, method, size if has_body else 0, is_chunked and has_body, parts, fields)
            self.n_requests += 1
        client.send(part)
        self.scene.pump()

    @rule(which=st.integers(0, 5), part=PARTS)
    def send(self, which, part):
        able = [one for one in self.scene.clients if one.is_open and one.waiting]
        if able:
            able[which % len(able)].send(part)
            self.scene.pump()

    @rule(which=st.integers(0, 5), how=st.sampled_from(["end", "end", "close", "reset"]))
    def leave(self, which, how):
        client = self.able_client(which)
        if client is None:
            return
        if how != "end":
            client.has_left = True
            client.close(how == "reset")
        elif not client.out:
            client.has_ended_side = True  # in the middle of a request, if some of it is left
            client.waiting.clear()
            client.sock.shutdown(socket.SHUT_WR)

    # -- the origin

    def one_at_work(self, which):
        self.scene.rest()
        working = self.scene.working()
        return working[which % len(working)] if working else None

    @rule(which=st.integers(0, 5), status=st.sampled_from([100, 103]))
    def send_interim(self, which, status):
        connection = self.one_at_work(which)
        if connection is not None and not connection.attempt.framing:
            connection.interim(status)
            self.scene.pump()

    @rule(which=st.integers(0, 5), framing=st.sampled_from(["length", "chunked", "close"]), size=SIZES, part=PARTS)
    def answer(self, which, framing, size, part):
        connection = self.one_at_work(which)
        if connection is not None and not connection.attempt.framing:
            connection.answer(framing, size)
            connection.more(part)
            self.scene.pump()

    @rule(which=st.integers(0, 5), part=PARTS)
    def answer_more(self, which, part):
        connection = self.one_at_work(which)
        if connection is not None and connection.attempt.framing:
            connection.more(part)
            self.scene.pump()

    @rule(which=st.integers(0, 5), is_reset=st.booleans())
    def break_off(self, which, is_reset):
        connection = self.one_at_work(which)
        if connection is not None:
            connection.close(is_reset)

    @rule(which=st.integers(0, 5), is_reset=st.booleans(), rests=st.booleans())
    def drop_idle(self, which, is_reset, rests):
        if rests:
            self.scene.rest()
        idle = self.scene.idle()
        if idle:
            idle[which % len(idle)].close(is_reset)
            self.scene.n_lost += 1

    # -- the end

    def teardown(self):
        try:
            self.finish()
            for client in self.scene.clients:
                self.check_client(client)
            self.check_origin()
        finally:
            self.scene.close()
        wait_until_equal(self.held, self.before)

    def finish(self):
        """Let clients send the rest and the origin answer all, until each client has what it can get."""
        give_up = time.monotonic() + PROMPT_S
        for client in self.scene.clients:
            client.send(len(client.waiting))
        while True:
            moved = self.scene.pump(0.01)
            for connection in self.scene.working():
                moved = True
                if not connection.attempt.framing:
                    connection.answer("length", 3)
                connection.more(1 << 30)
            if not moved and not any(one.is_open and one.first_open for one in self.scene.clients):
                return
            assert time.monotonic() < give_up, self.scene.describe()

    def check_client(self, client):
        was_early = False
        for request in client.requests:
            if not request.is_whole:
                break
            self.check_answer(client, request)
            was_early |= request.left > 0 or self.attempt_of(request) is None or not self.attempt_of(request).is_whole
        request = client.first_open
        if request is None or client.has_left:
            return
        assert client.was_ended
        before = client.requests[: client.requests.index(request)]
        if request.head is not None:
            # cut: the origin broke off, and what came is the beginning of what it sent
            attempt = self.attempt_of(request)
            assert attempt is not None
            assert attempt.is_broken, f"cut without a reason: {request.head}"
            assert attempt.answer.startswith(bytes(request.received))
        else:
            told = any(one.ends_connection or self.asked_to_close(one) for one in before)
            is_half = client.has_ended_side and request.left
            assert told or was_early or is_half or client.has_ended_side, f"request {request.number} has no answer"

    def asked_to_close(self, request):
        return b"Connection: close\r\n" in request.data[: request.data.index(b"\r\n\r\n")]

    def attempt_of(self, request):
        return None if request.from_origin is None else self.scene.attempts[request.from_origin]

    def check_answer(self, client, request):
        """Whole: it is the answer to this very request, or a page that says who failed."""
        attempt = self.attempt_of(request)
        if attempt is None and client.has_ended_side and request.left and request.head.status_code == 400:
            assert bytes(request.received) == b"400 client_truncated\n"
            return
        if attempt is None:
            assert request.head.status_code in (502, 503), request.head
            mine = [one for one in self.scene.attempts if one.request == request.number]
            assert any(one.is_broken for one in mine) or self.scene.n_lost, "a failure that nobody made"
            return
        assert attempt.request == request.number
        assert attempt.is_answered, "an answer that the origin never ended came whole"
        assert bytes(request.received) == (b"" if request.method == "HEAD" else attempt.answer)
        assert set(request.interim) <= {100, 103}

    def check_origin(self):
        sent = {request.number: request for client in self.scene.clients for request in client.requests}
        tries = {}
        for attempt in self.scene.attempts:
            request = sent[attempt.request]
            assert attempt.method == request.method
            assert request.body.startswith(bytes(attempt.body)), "not what the client sent"
            assert not attempt.is_whole or bytes(attempt.body) == content(request.number, len(request.body))
            tries.setdefault(request.number, []).append(attempt)
        for number, attempts in tries.items():
            assert len(attempts) <= 3
            if sent[number].method not in IDEMPOTENT:
                # A reused connection that died under the head alone may be replaced: nothing was asked yet.
                again = [one for one in attempts[:-1] if one.is_whole or one.body or not one.connection.was_used]
                assert again == [], f"{sent[number].method} {number} was sent twice"
        for number, attempts in tries.items():
            answered = [one for one in attempts if one.framing]
            assert len(answered) <= 1 or answered[0].is_broken, number


def n_descriptors():
    return len(os.listdir("/proc/self/fd"))


def wait_until_equal(measure, wanted):
    give_up = time.monotonic() + PROMPT_S
    while (found := measure()) != wanted:
        assert time.monotonic() < give_up, f"left over: {found}, before: {wanted}"
        time.sleep(0.002)


@pytest.fixture
def bound(caplog):
    """The machine with a proxy and an origin."""
    caplog.set_level(logging.CRITICAL + 1)
    with socket.create_server(("0.0.0.0", 0), backlog=128) as listener:
        proxy = RunningProxy(Balanced(listener.getsockname()[1]))

        class Bound(Machine):
            pass

        Bound.proxy, Bound.listener = proxy, listener
        try:
            yield Bound
        finally:
            proxy.close()
            del Bound.proxy, Bound.listener  # hypothesis keeps the class


def test_whatever_clients_and_origin_do_answers_belong_to_their_requests_and_nothing_is_left(bound):
    run_state_machine_as_test(bound, settings=settings_of_ci)


def test_a_client_that_ends_its_side_within_a_body_is_told(bound):
    machine = bound()
    machine.connect()
    machine.ask(0, ["POST"], 5000, True, 4, None, 1000)
    machine.leave(0, "end")
    machine.teardown()
    (request,) = machine.scene.clients[0].requests
    assert request.head.status_code == 400
