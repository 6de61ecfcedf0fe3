"""What `pingora run` was told to serve. Light: it travels from the command line through the supervisor.

`pingora.loading` makes a Server of it, in each generation: only there is user code imported.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pingora.usage import ConfigError, UsageError

if TYPE_CHECKING:
    from pingora.config.model import Config


@dataclass(frozen=True)
class Program:
    """A file with a Server, or a plain proxy from `listen` to `upstream`. `access_log`: None leaves it to the file."""

    file: str | None = None  # FILE.py, FILE.py:NAME or FILE.toml
    listen: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    access_log: str | None = None

    @classmethod
    def from_message(cls, fields: dict[str, Any]) -> "Program":
        """Undo `to_message`."""
        return cls(**{**fields, "listen": tuple(fields["listen"]), "upstream": tuple(fields["upstream"])})

    def to_message(self) -> dict[str, Any]:
        """Give what JSON can carry."""
        return asdict(self)

    @property
    def name(self) -> str:
        """A short name for people and for files."""
        return Path(self.file.partition(":")[0]).stem if self.file else "plain"

    @property
    def config_file(self) -> str | None:
        """The file, if it is a configuration."""
        return self.file if self.file is not None and self.file.endswith(".toml") else None

    def check(self, is_for_others: bool = False) -> "Config | None":
        """Find errors of use that need no loading; return the configuration, if it is one. Raises UsageError.

        `is_for_others`: it will be served by another user, whose code is not to run with our rights.
        """
        if self.file is None:
            if not self.listen or not self.upstream:
                raise UsageError(
                    "say what to serve: FILE.py, FILE.toml, or --from ADDR and --to URL (see pingora run --help)"
                )
        elif self.listen or self.upstream:
            raise UsageError("give a file, or --from and --to, not both")
        elif self.config_file is not None:
            return check_config(self.config_file, is_for_others)
        elif not Path(self.file.partition(":")[0]).is_file():
            raise no_such_file(self.file.partition(":")[0])
        return None


def check_config(file: str, is_for_others: bool) -> "Config":
    """Read a configuration. Raises ConfigError."""
    from pingora.config.build import load_config  # only here: other programs need none of it
    from pingora.config.reader import read_config, read_tables

    try:
        return read_config(file)
    except ConfigError:
        source, _ = read_tables(file)
        if not is_for_others and not {"user", "group"} & source.values.keys():
            load_config(file)  # nothing will be served, so user code may run here, and all faults are told
        raise


def no_such_file(file: str) -> UsageError:
    """Say that a file is not there, and which one may be meant."""
    if Path(file).is_dir():
        return UsageError(f"{file} is a directory; name a FILE.py or FILE.toml in it")
    near = [file + end for end in (".py", ".toml") if Path(file + end).is_file()]
    return UsageError(f"no such file: {file}" + (f", did you mean {' or '.join(near)}?" if near else ""))
