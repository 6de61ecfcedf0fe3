"""Errors of use, and whether a user's file is being loaded. Light: the supervisor and the command line import it."""

from contextvars import ContextVar

# True while the command line executes a user's file, which must not start to serve.
is_loading: ContextVar[bool] = ContextVar("is_loading", default=False)


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line for a person."""

    @property
    def told(self) -> str:
        """The message as a command prints it."""
        return f"pingora: {self}"


class ConfigError(UsageError):
    """A configuration that cannot be used. `problems` has a line for each fault, in the order of the file."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    @property
    def told(self) -> str:
        """The message as a command prints it: each line begins with its place."""
        return str(self)
