"""checks: hooks that would never run are found before anything is served."""

import logging

import pytest

from pingora import HttpModule, LoadBalancer, ProxyHttp, Server
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


def test_a_misspelt_hook_of_a_module_is_told(caplog):
    caplog.set_level(logging.WARNING)
    served(with_modules(module_with("request_filtr")))
    assert [record.getMessage() for record in caplog.records] == [
        "Guard.request_filtr is no hook, did you mean request_filter?"
    ]
