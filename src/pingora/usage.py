"""Errors of use, and whether a user's file is being loaded. Light: the supervisor and the command line import it."""

from contextvars import ContextVar

# True while the command line executes a user's file, which must not start to serve.
is_loading: ContextVar[bool] = ContextVar("is_loading", default=False)


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line for a person."""
