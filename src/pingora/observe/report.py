"""What goes wrong with requests, as lines of the error log."""

import logging
from types import TracebackType

from pingora_c.proxy.failure import ProxyError

log = logging.getLogger("pingora")


# What to do about a result of a hook, or about what it gave to the core, by the message.
REMEDIES = {
    "expected None or a Response": "return a Response to answer, nothing to go on",
    "expected an HttpPeer": 'return HttpPeer("127.0.0.1:9001"), or an endpoint in it',
    "expected None or bytes": "return bytes in its place (.encode() makes them of text), nothing to leave it as it is",
    "must be str or bytes, not": "give it a text, such as str(number)",
    "it frames the message or belongs to the connection": "leave it to the proxy: take this line out of the hook",
}


def is_awaitable_misused(error: BaseException) -> bool:
    """Whether something was done with a coroutine or a future that only its result allows."""
    text = str(error)
    if isinstance(error, RuntimeError):
        return text == "await wasn't used with future"  # `in` and `for` come as far as that
    return isinstance(error, (TypeError, AttributeError)) and ("coroutine" in text or "Future" in text)


def remedy_for(error: BaseException) -> str:
    """Say what to do, as the end of a message; "" if that is for the author to know."""
    if is_awaitable_misused(error):
        return "; is an await missing?"
    text = str(error)
    return next((f"; {remedy}" for said, remedy in REMEDIES.items() if said in text), "")


def from_the_hook_on(trace: TracebackType | None) -> TracebackType | None:
    """Leave out how the core came to call the hook; None if the hook was over."""
    while trace is not None and trace.tb_frame.f_code.co_filename.endswith(".pyx"):
        trace = trace.tb_next
    return trace


class Report:
    """Where the core tells what went wrong with a request: the error log."""

    def hook_raised(self, hook: str, request: str, error: BaseException) -> None:
        """Log a hook that raised with its traceback, or in one line that what it returned will not do."""
        trace = from_the_hook_on(error.__traceback__)
        if trace is None:
            name = "" if hook.rpartition(".")[2] in str(error) else f"{hook}: "
            log.error("%s: %s%s%s", request, name, error, remedy_for(error))
            return
        log.error("hook %s raised for %s%s", hook, request, remedy_for(error), exc_info=(type(error), error, trace))

    def failed(
        self,
        summary: str,
        error: ProxyError,
        client: str,
        upstream: str | None,
        attempts: int,
        cut: tuple[int, int] | None = None,
    ) -> None:
        """Log a request that failed; `cut` is the status of an answer that was cut, and the bytes of it that left."""
        log.warning(
            "%s: %s%s, status %d%s, client %s, upstream %s, attempts %d",
            summary,
            error.reason,
            f" ({error.detail})" if error.detail else "",
            cut[0] if cut else error.status,
            f", cut after {cut[1]} bytes" if cut else "",
            client,
            upstream or "-",
            attempts,
        )

    def outage(self, address: str, failures: int, seconds: float | None) -> None:
        """Log an endpoint that failures took out of selection, or (None) that is in again."""
        if seconds is None:
            log.info("upstream %s answers again", address)
        else:
            log.warning("upstream %s is left out for %.3g s, failures in a row: %d", address, seconds, failures)

    def refused(self, reason: str, status: int, client: str) -> None:
        """Log a message that was refused before there was a request."""
        log.warning("refused: %s, status %d, client %s", reason, status, client)
