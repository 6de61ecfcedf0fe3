"""What an operator can set about the processes of an instance."""

import grp
import pwd
from dataclasses import dataclass
from typing import Any

LOG_KEYS = {"access_log_file": "logs.access_file", "error_log_file": "logs.error_file"}


@dataclass(frozen=True)
class Options:
    """Times in seconds."""

    workers: int = 1
    grace: float = 5.0  # for running requests after a stop
    drain: float = 300.0  # for what is connected to the workers that a reload or an upgrade replaces
    stuck_after: float = 10.0  # without a sign of life, until a worker is replaced; 0: never
    health: str | None = None  # address of the probes
    metrics: str | None = None  # address where metrics are shown; None: as the program says
    ready_delay: float = 0.0  # between "not ready" and accepting nobody any more
    max_requests: int = 0  # of a worker, until it is replaced; 0: no limit
    max_memory: int = 0  # bytes of a worker, likewise
    descriptors: int | None = None  # of each process; None: as many as it may have
    user: str | None = None  # of all processes but the supervisor
    group: str | None = None
    daemon: bool = False
    control: str | None = None  # path of the control socket; None: a default
    name: str = "pingora"  # of the default control socket
    pid_file: str | None = None
    access_log_file: str | None = None  # in place of stdout
    error_log_file: str | None = None  # in place of stderr

    @property
    def for_workers(self) -> dict[str, Any]:
        """What generations and workers need to know."""
        names = ("drain", "max_requests", "max_memory", "descriptors")
        return {name: getattr(self, name) for name in names}

    @property
    def log_files(self) -> dict[int, str]:
        """The files by the descriptor that they replace."""
        return {fd: path for fd, path in ((1, self.access_log_file), (2, self.error_log_file)) if path}


def key_of(option: str) -> str:
    """Give the key that an option has in pingora.toml."""
    return LOG_KEYS.get(option, option)


def find_user(name: str) -> pwd.struct_passwd:
    """Give a user. Raises KeyError."""
    return pwd.getpwnam(name)


def find_group(name: str) -> int:
    """Give the number of a group. Raises KeyError."""
    return grp.getgrnam(name).gr_gid
