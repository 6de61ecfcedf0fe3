"""HttpModule: a filter that several proxies can carry, and how modules and a proxy's own hooks become one hook."""

from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any, Generic

from pingora.hook_types import Answer, Ctx, FilteredChunk, FilteredRequestChunk, MaybeAsync
from pingora_c.http.header_map import HeaderMap
from pingora_c.http.message import ResponseHead
from pingora_c.proxy.body_filter import LastChunk
from pingora_c.proxy.failure import ProxyError
from pingora_c.proxy.response import Response
from pingora_c.proxy.session import Session

Hook = Callable[..., Any]


class HttpModule(Generic[Ctx]):
    """Filters to put into `ProxyHttp.modules`, shared by all requests. Override what you need, `def` or `async def`.

    Modules of a higher `order` run first, equal ones as they stand in the list. On the way in they run before the
    proxy's own hook of that name, on the way out after it: they are the outer shell. What a hook may change and return
    is as in ProxyHttp; a Response ends the row. State of one request belongs into a `contextvars.ContextVar`: each
    session has a context of its own. A module with another hook of ProxyHttp, which would never run, is refused.
    """

    order: int = 0

    def request_filter(self, session: Session, ctx: Ctx) -> Answer:
        """Check a request, or answer it. Returns: None or a Response."""

    def request_body_filter(self, session: Session, chunk: bytes, end: bool, ctx: Ctx) -> FilteredRequestChunk:
        """Change the request's body. Returns: None, bytes, a LastChunk or a Response."""

    def response_filter(self, session: Session, response: ResponseHead, ctx: Ctx) -> Answer:
        """Change the answer that the client gets. Returns: None or a Response."""

    def answer_filter(self, session: Session, response: ResponseHead, ctx: Ctx) -> None:
        """Change the head of an answer that is made here: an error page, or the Response of a hook. No `async def`.

        Its body is not to be had. What it raises is logged, and the answer goes out as far as it was changed.
        """

    def response_body_filter(self, session: Session, chunk: bytes, end: bool, ctx: Ctx) -> FilteredChunk:
        """Change the answer's body. Returns: None, bytes or a LastChunk."""

    def response_trailer_filter(self, session: Session, trailers: HeaderMap, ctx: Ctx) -> FilteredChunk:
        """Change the answer's trailer fields. Returns: None."""

    def logging(self, session: Session, error: ProxyError | None, ctx: Ctx) -> MaybeAsync[None]:
        """Log a finished request. Returns: nothing."""


INWARD = ("request_filter", "request_body_filter")  # the modules' hooks come before the proxy's own
OUTWARD = ("response_filter", "answer_filter", "response_body_filter", "response_trailer_filter", "logging")
BODIES = ("request_body_filter", "response_body_filter")


def module_hooks(modules: Sequence[HttpModule], phase: str) -> list[Hook]:
    """Return what the modules override of a phase, in the order in which it runs."""
    if phase not in INWARD and phase not in OUTWARD:
        return []
    for module in modules:
        if not isinstance(module, HttpModule):
            raise TypeError(f"modules: expected HttpModule objects, got {module!r}")
    ordered = sorted(modules, key=lambda module: -module.order)
    plain = getattr(HttpModule, phase)
    return [getattr(module, phase) for module in ordered if getattr(type(module), phase) is not plain]


def combine(phase: str, own: Hook | None, of_modules: list[Hook]) -> Hook | None:
    """Make one hook of a proxy's own and those of its modules; None if there is none."""
    owns = [] if own is None else [own]
    hooks = of_modules + owns if phase in INWARD else owns + of_modules
    if len(hooks) < 2:
        return hooks[0] if hooks else None
    if phase in BODIES:
        return chain_bodies(hooks)
    return chain_all(hooks) if phase in ("logging", "answer_filter") else chain(hooks)


def chain(hooks: list[Hook]) -> Hook:
    """Make a hook that runs `hooks` in turn, until one returns something."""

    def run(*arguments: Any) -> Any:
        for at, hook in enumerate(hooks):
            result = hook(*arguments)
            if type(result) is CoroutineType:
                return go_on(result, at + 1, arguments)
            if result is not None:
                return result
        return None

    async def go_on(coroutine: Any, at: int, arguments: tuple[Any, ...]) -> Any:
        result = await coroutine
        while result is None and at < len(hooks):
            result = hooks[at](*arguments)
            if type(result) is CoroutineType:
                result = await result
            at += 1
        return result

    return run


def chain_all(hooks: list[Hook]) -> Hook:
    """Make a hook that runs all of `hooks` in turn, whatever becomes of them; the first exception is raised behind."""

    def run(*arguments: Any) -> Any:
        first: BaseException | None = None
        for at, hook in enumerate(hooks):
            try:
                result = hook(*arguments)
            except Exception as error:
                first = first or error
            else:
                if type(result) is CoroutineType:
                    return go_on(result, at + 1, arguments, first)
        if first is not None:
            raise first

    async def go_on(coroutine: Any, at: int, arguments: tuple[Any, ...], first: BaseException | None) -> None:
        while True:
            try:
                if type(coroutine) is CoroutineType:
                    await coroutine
            except BaseException as error:  # the limit of the hook cancels the one that is too slow
                first = first or error
            if at == len(hooks):
                break
            try:
                coroutine = hooks[at](*arguments)
            except Exception as error:
                first, coroutine = first or error, None
            at += 1
        if first is not None:
            raise first

    return run


def chain_bodies(hooks: list[Hook]) -> Hook:
    """Make a body filter that hands each chunk through `hooks`."""

    def run(session: Any, chunk: bytes, end: bool, ctx: Any) -> Any:
        state = Passing(chunk, end)
        for at, hook in enumerate(hooks):
            result = hook(session, state.chunk, state.end, ctx)
            if type(result) is CoroutineType:
                return go_on(result, at + 1, session, state, ctx)
            if state.take(result):
                break
        return state.result

    async def go_on(coroutine: Any, at: int, session: Any, state: "Passing", ctx: Any) -> Any:
        is_over = state.take(await coroutine)
        while not is_over and at < len(hooks):
            result = hooks[at](session, state.chunk, state.end, ctx)
            if type(result) is CoroutineType:
                result = await result
            is_over = state.take(result)
            at += 1
        return state.result

    return run


class Passing:
    """A chunk on its way through several body filters."""

    def __init__(self, chunk: bytes, end: bool) -> None:
        self.chunk = chunk
        self.end = end
        self.result: Any = None

    def take(self, result: Any) -> bool:
        """Note what a filter returned; True if the others are not asked any more."""
        if result is None:
            return False
        if isinstance(result, Response) or not isinstance(result, (bytes, bytearray, memoryview)):
            self.result = result
            return True
        self.chunk = bytes(result)
        self.end = self.end or isinstance(result, LastChunk)
        is_early = isinstance(result, LastChunk) or isinstance(self.result, LastChunk)
        self.result = LastChunk(self.chunk) if is_early else self.chunk
        return not self.chunk and not self.end
