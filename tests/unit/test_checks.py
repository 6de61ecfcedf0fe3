"""checks: hooks that would never run are found before anything is served."""

import functools
import inspect
import logging
import re
import sys
import types
import unittest.mock

import pytest

from pingora import FnvHash, HttpModule, Ketama, LoadBalancer, ProxyHttp, RetryPolicy, Server, TcpProxy
from pingora.checks import MODULE_HOOKS
from pingora.modules import INWARD, OUTWARD
from pingora.usage import UsageError


class Plain(ProxyHttp):
    upstreams = LoadBalancer(["127.0.0.1:1"])


def served(proxy):
    server = Server()
    server.add_proxy(proxy, "127.0.0.1:0")
    return server


def with_modules(*modules):
    proxy = Plain()
    proxy.modules = modules
    return proxy


def module_with(*names):
    """Make a module that has methods of these names."""
    return type("Guard", (HttpModule,), {name: lambda self, *arguments: None for name in names})()


def test_the_hooks_of_a_module_are_those_that_run():
    assert sorted(MODULE_HOOKS) == sorted([*INWARD, *OUTWARD])


@pytest.mark.parametrize(
    "name", ["early_request_filter", "upstream_request_filter", "fail_to_proxy", "worker_start", "certificate"]
)
def test_a_hook_that_a_module_does_not_have_is_refused(name):
    server = served(with_modules(module_with("request_filter"), module_with(name)))
    with pytest.raises(UsageError, match=rf"^Guard\.{name} would never run, .* hooks of a module are request_filter, "):
        server.check()


def test_a_module_may_have_methods_of_its_own(caplog):
    server = served(with_modules(module_with(*MODULE_HOOKS, "close", "allow", "_early_request_filter")))
    server.check()
    assert caplog.text == ""


def warnings(proxy, caplog):
    caplog.set_level(logging.WARNING)
    served(proxy)
    return [record.getMessage() for record in caplog.records]


def test_a_misspelt_hook_of_a_module_is_told(caplog):
    assert warnings(with_modules(module_with("request_filtr")), caplog) == [
        "Guard.request_filtr is no hook, did you mean request_filter?"
    ]


@pytest.mark.parametrize("base", [ProxyHttp, TcpProxy])
@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("certficate", "certificate"),
        ("worker_strat", "worker_start"),
        ("worker_stopp", "worker_stop"),
        ("upstream_peers", "upstream_peer"),
    ],
)
def test_a_misspelt_hook_is_told(caplog, base, name, near):
    kind = type("Edge", (base,), {name: lambda self, *arguments: None})
    assert warnings(kind(), caplog) == [f"Edge.{name} is no hook, did you mean {near}?"]


def test_a_misspelt_setting_is_told(caplog):
    kind = type("Edge", (ProxyHttp,), {"hook_timeout": {"request_filter": 1.0}, "module": []})
    assert warnings(kind(), caplog) == [
        "Edge.hook_timeout is no setting, did you mean hook_timeouts?",
        "Edge.module is no setting, did you mean modules?",
    ]


@pytest.mark.parametrize("name", ["closed", "upstream", "allowed", "request_filter_of_mine", "_request_filtr"])
def test_a_name_of_the_program_is_not_told(caplog, name):
    assert warnings(type("Edge", (ProxyHttp,), {name: 1})(), caplog) == []
    assert warnings(type("Edge", (ProxyHttp,), {name: lambda self: None})(), caplog) == []


@pytest.mark.parametrize("name", ["request_filter", "certificate"])
def test_a_hook_on_the_object_is_told(caplog, name):
    proxy = Plain()
    setattr(proxy, name, lambda *arguments: None)
    assert warnings(proxy, caplog) == [
        f"Plain.{name} was set on the object and is not called, write it as a method of the class"
    ]


def test_a_hook_on_a_module_is_told(caplog):
    module = module_with()
    module.logging = print
    assert warnings(with_modules(module), caplog) == [
        "Guard.logging was set on the object and is not called, write it as a method of the class"
    ]


def test_what_is_called_from_the_object_is_not_told(caplog):
    proxy = type("Edge", (Plain,), {"request_filter": lambda self, session, ctx: None})()
    for name in ("request_filter", "close", "worker_start", "worker_stop"):
        setattr(proxy, name, lambda *arguments: None)
    assert warnings(proxy, caplog) == []


class Awaiting(HttpModule):
    pass


class Unordered(HttpModule):
    order = "first"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hook_timeouts", None, r'hook_timeouts: expected a dict such as {"upstream_peer": 2\.0}, got None'),
        (
            "hook_timeouts",
            {"requst_filter": 1.0},
            "hook_timeouts: 'requst_filter' is no hook of a request, did you mean 'request_filter'?",
        ),
        ("hook_timeouts", {"worker_start": 1.0}, "hook_timeouts: 'worker_start' is no hook of a request"),
        ("hook_timeouts", {3: 1.0}, "hook_timeouts: 3 is no hook of a request"),
        ("hook_timeouts", {"request_filter": "1s"}, "request_filter: expected 0.001 to 86400 seconds, .* got '1s'"),
        ("hook_timeouts", {"request_filter": None}, "request_filter: expected 0.001 to 86400 seconds, .* got None"),
        ("hook_timeouts", {"request_filter": -1}, "request_filter: expected 0.001 to 86400 seconds, .* got -1"),
        ("hook_timeouts", {"request_body_filter": 1.0}, "request_body_filter has no limit, .*: take it out"),
        ("modules", "x", "modules: expected a list of HttpModule objects, got 'x'"),
        ("modules", None, "modules: expected a list of HttpModule objects, got None"),
        ("modules", [Awaiting], r"modules: expected objects, got the class Awaiting: Awaiting\(\)"),
        ("modules", [object()], "modules: expected HttpModule objects, got <object"),
        ("modules", [Unordered()], "^Unordered.order: expected a number, got 'first'"),
        ("retry", {"attempts": 2}, r"retry: expected a RetryPolicy, got {'attempts': 2}: RetryPolicy\(attempts=2\)"),
        ("retry", None, "retry: expected a RetryPolicy, got None"),
        ("abort_on_half_close", "yes", "abort_on_half_close: expected True or False, got 'yes'"),
        ("takes_connect", 1, "takes_connect: expected True or False, got 1"),
        ("worker_start", lambda self: None, "worker_start is awaited: write async def worker_start, without yield"),
        ("worker_stop", lambda self: None, "worker_stop is awaited: write async def worker_stop, without yield"),
    ],
)
def test_an_attribute_that_cannot_be_served_is_refused(name, value, message):
    server = served(type("Edge", (Plain,), {name: value})())
    with pytest.raises(UsageError, match=message):
        server.check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hook_timeouts", {"logging": 1.0}),
        ("retry", RetryPolicy(attempts=2)),
        ("reads_client_hello", True),
    ],
)
def test_attributes_of_a_tcp_proxy_are_taken(name, value):
    served(type("Edge", (TcpProxy,), {"upstreams": Plain.upstreams, name: value})()).check()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hook_timeouts", {"request_filter": 1.0}, "'request_filter' is no hook of a request"),
        ("retry", None, "retry: expected a RetryPolicy, got None"),
        ("reads_client_hello", 1, "reads_client_hello: expected True or False, got 1"),
    ],
)
def test_an_attribute_of_a_tcp_proxy_that_cannot_be_served_is_refused(name, value, message):
    server = served(type("Edge", (TcpProxy,), {"upstreams": Plain.upstreams, name: value})())
    with pytest.raises(UsageError, match=message):
        server.check()


def test_what_is_awaited_may_be_wrapped_or_set_on_the_object():
    async def start(self):
        pass

    @functools.wraps(start)
    def wrapped(self):
        return start(self)

    proxy = type("Edge", (Plain,), {"worker_start": wrapped})()
    proxy.worker_stop = unittest.mock.AsyncMock()
    served(proxy).check()


def takes_session(self, session):
    """A hook without `ctx`."""


def adding_an_argument(hook):
    @functools.wraps(hook)
    def wrapped(self, session, ctx):
        return hook(self, session, ctx, "user")

    return wrapped


def with_signature_of_another(self, *arguments, strict):
    """A hook that says what it takes by `__signature__`."""


with_signature_of_another.__signature__ = inspect.signature(takes_session)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("base", "signature", "expected"),
    [
        (ProxyHttp, "request_filter(self, session)", "(self, session, ctx)"),
        (ProxyHttp, "request_filter(session, ctx)", "(self, session, ctx)"),
        (ProxyHttp, "request_filter()", "(self, session, ctx)"),
        (ProxyHttp, "request_filter(self, session, ctx, user)", "(self, session, ctx)"),
        (ProxyHttp, "request_filter(self, session, ctx, *, strict)", "(self, session, ctx)"),
        (ProxyHttp, "new_ctx(self, session)", "(self)"),
        (ProxyHttp, "response_body_filter(self, session, chunk, ctx)", "(self, session, chunk, end, ctx)"),
        (ProxyHttp, "logging(self, session, ctx)", "(self, session, error, ctx)"),
        (ProxyHttp, "certificate(self)", "(self, client_hello)"),
        (ProxyHttp, "close(self, code)", "(self)"),
        (ProxyHttp, "worker_start(self, worker)", "(self)"),
        (HttpModule, "request_filter(self, session)", "(self, session, ctx)"),
        (HttpModule, "logging(self, session, ctx)", "(self, session, error, ctx)"),
        (TcpProxy, "connection_filter(self, session, ctx)", "(self, session)"),
        (TcpProxy, "upstream_peer(self)", "(self, session)"),
    ],
)
def test_a_hook_with_a_wrong_signature_is_refused(base, signature, expected, is_async):
    scope = {"base": base}
    exec(f"class Edge(base):\n    {'async ' * is_async}def {signature}: ...", scope)
    part = scope["Edge"]()
    name, takes = re.match(r"(\w+)(.+)", signature).groups()
    if base is TcpProxy:
        part.upstreams = Plain.upstreams
    server = served(with_modules(part) if base is HttpModule else part)
    with pytest.raises(UsageError) as raised:
        server.check()
    assert str(raised.value) == f"Edge.{name}: takes {takes}, expected {expected}"


@pytest.mark.parametrize(
    ("hook", "takes", "expected"),
    [
        (staticmethod(takes_session), "(self, session)", None),
        (staticmethod(lambda self, session, ctx: None), "(self, session, ctx)", "(session, ctx)"),
        (classmethod(lambda cls, session: None), "(cls, session)", "(self, session, ctx)"),
        (functools.partialmethod(lambda self, user, session: None, "user"), "(session)", "(session, ctx)"),
    ],
)
def test_a_hook_that_is_no_plain_method_is_judged_as_it_is_called(hook, takes, expected):
    server = served(type("Edge", (Plain,), {"request_filter": hook})())
    if expected is None:
        server.check()
        return
    with pytest.raises(UsageError, match=re.escape(f"Edge.request_filter: takes {takes}, expected {expected}")):
        server.check()


class Passing:
    """In place of a method: passes one argument more, and has what the method has."""

    def __init__(self, function):
        self.function = function

    def __get__(self, instance, owner):
        return self if instance is None else Passing(self.function.__get__(instance, owner))

    def __call__(self, *arguments):
        return self.function(*arguments, "user")

    def __getattr__(self, name):
        return getattr(self.function, name)


class Disguised(Passing):
    __class__ = types.MethodType


CALLABLE = {
    "an object that passes an argument more": Passing(lambda self, session, ctx, user: None),
    "one that says that it is a method": Disguised(lambda self, session, ctx, user: None),
    "any number": lambda self, *arguments: None,
    "other names": lambda self, session, context: None,
    "more with defaults": lambda self, session, ctx, user=None, *, strict=False: None,
    "decorated with one that adds an argument": adding_an_argument(lambda self, session, ctx, user: None),
    "with the signature of another": with_signature_of_another,
    "a mock": unittest.mock.Mock(),
    "a mock that is awaited": unittest.mock.AsyncMock(),
    "a builtin": print,
    "none": None,
}


@pytest.mark.parametrize("hook", CALLABLE.values(), ids=CALLABLE)
def test_a_hook_that_can_be_called_is_taken(hook):
    served(type("Edge", (Plain,), {"request_filter": hook})()).check()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated where they stand")
def test_annotations_of_hooks_are_not_evaluated():
    scope = {"Plain": Plain}
    exec("class Edge(Plain):\n    def request_filter(self, session: Unknown, ctx: Unknown) -> Unknown: ...", scope)
    served(scope["Edge"]()).check()


def test_a_hook_of_the_object_is_judged_too():
    proxy = Plain()
    proxy.close = lambda code: None
    with pytest.raises(UsageError, match=r"^Plain\.close: takes \(code\), expected \(\)$"):
        served(proxy).check()
    proxy = Plain()
    proxy.request_filter = lambda: None  # not called, which is told
    served(proxy).check()


def test_limits_that_are_none_are_refused():
    with pytest.raises(TypeError, match=r"limits: expected a Limits, got {'head_timeout': 10}: Limits\("):
        Server(limits={"head_timeout": 10})


@pytest.mark.parametrize("base", [ProxyHttp, TcpProxy])
@pytest.mark.parametrize("selection", [Ketama, FnvHash])
def test_a_selection_that_would_hash_nothing_is_refused(base, selection):
    kind = type("Edge", (base,), {"upstreams": LoadBalancer(["127.0.0.1:1"], selection())})
    with pytest.raises(UsageError, match=rf"^Edge\.upstreams: {selection.__name__} needs a key, such as "):
        served(kind()).check()


@pytest.mark.parametrize("selection", [Ketama, FnvHash])
def test_a_selection_with_a_key_is_taken(selection):
    served(type("Edge", (ProxyHttp,), {"upstreams": LoadBalancer(["127.0.0.1:1"], selection(), key="uri")})()).check()
    attributes = {"upstreams": LoadBalancer(["127.0.0.1:1"], selection()), "upstream_peer": lambda *arguments: None}
    served(type("Edge", (ProxyHttp,), attributes)()).check()
