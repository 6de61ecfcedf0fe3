"""What goes wrong with requests, as lines of the error log."""

import logging

from pingora_c.proxy.failure import ProxyError

log = logging.getLogger("pingora")


def is_awaitable_misused(error: BaseException) -> bool:
    """Whether something was done with a coroutine or a future that only its result allows."""
    return isinstance(error, (TypeError, AttributeError)) and ("coroutine" in str(error) or "Future" in str(error))


class Report:
    """Where the core tells what went wrong with a request: the error log."""

    def hook_raised(self, hook: str, request: str, error: BaseException) -> None:
        """Log the traceback of a hook that raised."""
        hint = "; is an await missing?" if is_awaitable_misused(error) else ""
        log.error("hook %s raised for %s%s", hook, request, hint, exc_info=error)

    def failed(self, summary: str, error: ProxyError, client: str, upstream: str | None, attempts: int) -> None:
        """Log a request that failed."""
        log.warning(
            "%s: %s%s, status %d, client %s, upstream %s, attempts %d",
            summary,
            error.reason,
            f" ({error.detail})" if error.detail else "",
            error.status,
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
