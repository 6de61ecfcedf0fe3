"""Finds mistakes in the classes of proxies and modules before anything is served: hooks that would never run."""

from collections.abc import Iterator, Sequence

from pingora.modules import HttpModule
from pingora.proxy import ProxyHttp
from pingora.tcp import TcpProxy
from pingora.usage import UsageError
from pingora_c.proxy.plan import PHASES
from pingora_c.proxy.tcp_session import TCP_PHASES


def hooks_of(base: type) -> list[str]:
    """Give the names of the hooks that a class declares: its public methods."""
    return [name for name, value in vars(base).items() if not name.startswith("_") and callable(value)]


MODULE_HOOKS = hooks_of(HttpModule)
# A module may have a `close` of its own that the proxy's calls; the others have no meaning but that of hooks.
PROXY_ONLY_HOOKS = [name for name in hooks_of(ProxyHttp) if name not in MODULE_HOOKS and name != "close"]


def misspelt_hooks(proxy: ProxyHttp | TcpProxy) -> Iterator[str]:
    """Say which methods of `proxy`'s class and modules are no hooks but named almost like one."""
    base, phases = (TcpProxy, TCP_PHASES) if isinstance(proxy, TcpProxy) else (ProxyHttp, PHASES)
    yield from near_misses(type(proxy), base, phases)
    for module in modules_of(proxy):
        yield from near_misses(type(module), HttpModule, MODULE_HOOKS)


def near_misses(kind: type, base: type, hooks: Sequence[str]) -> Iterator[str]:
    """Say which methods of a class, but those of its base, are named almost like one of `hooks`."""
    for name in sorted(set(dir(kind)) - set(dir(base))):
        if not name.startswith("_") and callable(getattr(kind, name)):
            import difflib  # only here: for classes with methods of their own

            for near in difflib.get_close_matches(name, hooks, n=1, cutoff=0.9):
                yield f"{kind.__name__}.{name} is no hook, did you mean {near}?"


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
