"""checks: hooks that would never run are found before anything is served."""

import logging

import pytest

from pingora import HttpModule, LoadBalancer, ProxyHttp, Server, TcpProxy
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
