"""Finds mistakes in the classes of proxies and modules before anything is served: hooks that would never run."""

from collections.abc import Iterator, Sequence

from pingora.modules import HttpModule
from pingora.proxy import ProxyHttp
from pingora.tcp import TcpProxy
from pingora.usage import UsageError


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
    for part, base in ((proxy, base_of(proxy)), *((module, HttpModule) for module in modules_of(proxy))):
        yield from near_misses(type(part), base)
        yield from misplaced_hooks(part, base)


def base_of(proxy: ProxyHttp | TcpProxy) -> type:
    """Give the class that declares the hooks of a proxy."""
    return TcpProxy if isinstance(proxy, TcpProxy) else ProxyHttp


def near_misses(kind: type, base: type) -> Iterator[str]:
    """Say which names of a class, but those of its base, are almost those of a hook or a setting."""
    for name in sorted(set(dir(kind)) - set(dir(base))):
        if not name.startswith("_"):
            import difflib  # only here: for classes with names of their own

            is_method = callable(getattr(kind, name))
            known = set(hooks_of(base) if is_method else settings_of(base)) - FREE
            for near in difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.9):
                yield f"{kind.__name__}.{name} is no {'hook' if is_method else 'setting'}, did you mean {near}?"


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
    """Find what a proxy's class has that cannot be served. Raises UsageError."""
    for module in modules_of(proxy):
        check_module(module)


def check_module(module: HttpModule) -> None:
    """Refuse a hook that only a proxy has: a guard would be silently open."""
    for name in PROXY_ONLY_HOOKS:
        if callable(getattr(type(module), name, None)):
            raise UsageError(
                f"{type(module).__name__}.{name} would never run, put it into the proxy's class or give it another "
                f"name: the hooks of a module are {', '.join(MODULE_HOOKS)}"
            )
