"""Finds mistakes in the classes of proxies and modules before anything is served: what cannot be, or has no effect."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any

from pingora.limits import RULES
from pingora.load_balancing import FnvHash, Ketama, LoadBalancer
from pingora.modules import HttpModule
from pingora.proxy import ProxyHttp
from pingora.retry import RetryPolicy
from pingora.tcp import TcpProxy
from pingora.usage import UsageError
from pingora_c.proxy.plan import PHASES
from pingora_c.proxy.tcp_session import TCP_PHASES
from pingora_c.upstream.balancer import KEY_KINDS

if sys.version_info >= (3, 14):
    import annotationlib

    # Annotations are not evaluated: they may have names that only type checkers know.
    UNEVALUATED: dict[str, Any] = {"annotation_format": annotationlib.Format.STRING}
else:
    UNEVALUATED: dict[str, Any] = {}


def hooks_of(base: type) -> list[str]:
    """Give the names of the hooks that a class declares: its public methods."""
    return [name for name, value in vars(base).items() if not name.startswith("_") and callable(value)]


def settings_of(base: type) -> list[str]:
    """Give the names of the settings that a class declares."""
    return [name for name, value in vars(base).items() if not name.startswith("_") and not callable(value)]


MODULE_HOOKS = hooks_of(HttpModule)
# A module may have a `close` of its own that the proxy's calls; the others have no meaning but that of hooks.
PROXY_ONLY_HOOKS = [name for name in hooks_of(ProxyHttp) if name not in MODULE_HOOKS and name != "close"]
FREE = {"close", "upstreams"}  # a program may well have a `closed` or an `upstream` of its own
OF_THE_OBJECT = {"close", "worker_start", "worker_stop"}  # which are found there, too


def ineffective_names(proxy: ProxyHttp | TcpProxy) -> Iterator[str]:
    """Say what of `proxy` and its modules has no effect, but is named almost like a hook or stands elsewhere."""
    for part, base in parts_of(proxy):
        yield from near_misses(type(part), base)
        yield from misplaced_hooks(part, base)


def parts_of(proxy: ProxyHttp | TcpProxy) -> Iterator[tuple[ProxyHttp | TcpProxy | HttpModule, type]]:
    """Give a proxy and its modules, each with the class that declares its hooks."""
    yield proxy, TcpProxy if isinstance(proxy, TcpProxy) else ProxyHttp
    for module in modules_of(proxy):
        yield module, HttpModule


def near_misses(kind: type, base: type) -> Iterator[str]:
    """Say which names of a class, but those of its base, are almost those of a hook or a setting."""
    for name in sorted(set(dir(kind)) - set(dir(base))):
        if not name.startswith("_"):
            is_method = callable(getattr(kind, name))
            known = set(hooks_of(base) if is_method else settings_of(base)) - FREE
            if near := nearest(name, known):
                yield f"{kind.__name__}.{name} is no {'hook' if is_method else 'setting'}, did you mean {near}?"


def nearest(name: str, known: Iterable[str]) -> str:
    """Give the known name that is almost the same, "" if there is none."""
    import difflib  # only here: for classes with names of their own

    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.9)), "")


def misplaced_hooks(part: ProxyHttp | TcpProxy | HttpModule, base: type) -> Iterator[str]:
    """Say which hooks were set on an object: they are looked for in its class."""
    kind = type(part)
    for name in hooks_of(base):
        is_in_class = getattr(kind, name) is not getattr(base, name)
        if name in vars(part) and not is_in_class and (base is HttpModule or name not in OF_THE_OBJECT):
            yield f"{kind.__name__}.{name} was set on the object and is not called, write it as a method of the class"


def modules_of(proxy: ProxyHttp | TcpProxy) -> list[HttpModule]:
    """Give the modules of a proxy, without what is none."""
    modules = getattr(proxy, "modules", ())
    return [module for module in modules if isinstance(module, HttpModule)] if isinstance(modules, Sequence) else []


def check_proxy(proxy: ProxyHttp | TcpProxy) -> None:
    """Find what a proxy's attributes have that cannot be served. Raises UsageError."""
    name = type(proxy).__name__
    check_modules(proxy)
    for part, base in parts_of(proxy):
        check_signatures(part, base)
    check_hook_timeouts(proxy)
    if not isinstance(proxy.retry, RetryPolicy):
        raise UsageError(f"{name}.retry: expected a RetryPolicy, got {proxy.retry!r}: RetryPolicy(attempts=2)")
    for setting in ("abort_on_half_close", "takes_connect", "reads_client_hello"):
        if not isinstance(value := getattr(proxy, setting, False), bool):
            raise UsageError(f"{name}.{setting}: expected True or False, got {value!r}")
    for hook in ("worker_start", "worker_stop"):
        function = inspect.unwrap(getattr(getattr(proxy, hook), "__func__", getattr(proxy, hook)))
        if inspect.isfunction(function) and not inspect.iscoroutinefunction(function):
            raise UsageError(f"{name}.{hook} is awaited: write async def {hook}, without yield")


def check_key(name: str, upstreams: LoadBalancer) -> None:
    """Refuse a selection that would hash nothing, and so send all requests to one endpoint. Raises UsageError."""
    if isinstance(upstreams.selection, (Ketama, FnvHash)) and upstreams.key_kind == KEY_KINDS[None]:
        selection = type(upstreams.selection).__name__
        raise UsageError(
            f"{name}.upstreams: {selection} needs a key, such as LoadBalancer([...], {selection}(), key='client_ip'), "
            "or an upstream_peer that gives one"
        )


def check_modules(proxy: ProxyHttp | TcpProxy) -> None:
    """Find what is no module. Raises UsageError."""
    name, modules = type(proxy).__name__, getattr(proxy, "modules", ())
    if not isinstance(modules, Sequence) or isinstance(modules, (str, bytes)):
        raise UsageError(f"{name}.modules: expected a list of HttpModule objects, got {modules!r}")
    for module in modules:
        if isinstance(module, type) and issubclass(module, HttpModule):
            raise UsageError(f"{name}.modules: expected objects, got the class {module.__name__}: {module.__name__}()")
        if not isinstance(module, HttpModule):
            raise UsageError(f"{name}.modules: expected HttpModule objects, got {module!r}")
        check_module(module)


def check_module(module: HttpModule) -> None:
    """Refuse a hook that only a proxy has: a guard would be silently open."""
    name = type(module).__name__
    if not isinstance(module.order, (int, float)):
        raise UsageError(f"{name}.order: expected a number, got {module.order!r}")
    if inspect.iscoroutinefunction(type(module).answer_filter):
        raise UsageError(f"{name}.answer_filter is not awaited, as an answer does not wait for it: write a plain def")
    for hook in PROXY_ONLY_HOOKS:
        if callable(getattr(type(module), hook, None)):
            raise UsageError(
                f"{name}.{hook} would never run, put it into the proxy's class or give it another name: the hooks of "
                f"a module are {', '.join(MODULE_HOOKS)}"
            )


def check_signatures(part: ProxyHttp | TcpProxy | HttpModule, base: type) -> None:
    """Refuse a hook that cannot be called with what it is given, before a request meets it. Raises UsageError."""
    kind = type(part)
    for name in hooks_of(base):
        is_of_the_object = name in OF_THE_OBJECT and name in vars(part)
        if getattr(kind, name) is getattr(base, name) and not is_of_the_object:
            continue
        hook = getattr(part, name)
        if type(hook) is not MethodType and isinstance(hook, MethodType):
            continue  # an object that passes for a method: what it calls it with, it knows alone
        function = hook.__func__ if type(hook) is MethodType else hook
        given = signature_of(function)
        names = [*inspect.signature(getattr(base, name)).parameters]
        expected = names[1:] if function is hook else names  # a static method, or an object that is called, has no self
        try:
            if given is not None:
                given.bind(*expected)
        except TypeError:
            raise UsageError(f"{kind.__name__}.{name}: takes {given}, expected ({', '.join(expected)})") from None


def signature_of(function: Any) -> inspect.Signature | None:
    """Give what a function takes, as names alone; None if that cannot be known."""
    if hasattr(function, "__signature__") or (hasattr(function, "__code__") and type(function) is not FunctionType):
        return None  # which are another function's, as a rule
    try:
        # Of a decorator's wrapper what it takes itself: it may call the function below with more or less.
        found = inspect.signature(function, follow_wrapped=False, **UNEVALUATED)
    except (TypeError, ValueError):
        return None
    return inspect.Signature([one.replace(annotation=one.empty) for one in found.parameters.values()])


def check_hook_timeouts(proxy: ProxyHttp | TcpProxy) -> None:
    """Find limits that no hook can have. Raises UsageError."""
    where, limits = f"{type(proxy).__name__}.hook_timeouts", proxy.hook_timeouts
    if not isinstance(limits, Mapping):
        raise UsageError(f'{where}: expected a dict such as {{"upstream_peer": 2.0}}, got {limits!r}')
    phases = TCP_PHASES if isinstance(proxy, TcpProxy) else PHASES
    for hook, limit in limits.items():
        if hook not in phases:
            near = nearest(str(hook), phases)
            raise UsageError(
                f"{where}: {hook!r} is no hook of a request" + (f", did you mean {near!r}?" if near else "")
            )
        if hook.endswith(("body_filter", "trailer_filter")):
            raise UsageError(f"{where}: {hook} has no limit, a body may take as long as it likes: take it out")
        if complaint := RULES["hook_timeout"].complaint(limit):
            raise UsageError(f"{where}: {hook}: {complaint}")
