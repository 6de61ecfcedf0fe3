"""What `pingora run` was told to serve, and how it becomes a Server.

A Program travels from the command line to each generation, which loads it: only there is user code imported.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pingora.config import Config, ConfigError, load_config, read_config
from pingora.load_balancing import LoadBalancer
from pingora.proxy import ProxyHttp
from pingora.server import Server
from pingora.usage import UsageError, is_loading


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

    def check(self) -> Config | None:
        """Find errors of use that need no user code; return the configuration, if it is one. Raises UsageError."""
        if self.file is None:
            plain_server(self.listen, self.upstream)
        elif self.listen or self.upstream:
            raise UsageError("give a file, or --from and --to, not both")
        elif self.config_file is not None:
            return self._check_config(self.config_file)
        elif not Path(self.file.partition(":")[0]).is_file():
            raise no_such_file(self.file.partition(":")[0])
        return None

    def _check_config(self, file: str) -> Config:
        try:
            return read_config(file)
        except ConfigError:
            load_config(file)  # nothing will be served, so user code may run here, and all faults are told
            raise

    def load(self) -> Server:
        """Make the Server. Raises UsageError."""
        if self.config_file is not None:
            server: Server = load_config(self.config_file, access_log=self.access_log)
        elif self.file is not None:
            server = load_server(self.file)
        else:
            server = plain_server(self.listen, self.upstream)
            server.access_log = "combined"
        if self.access_log:
            server.access_log = self.access_log
        return server


def plain_server(listen: tuple[str, ...], upstream: tuple[str, ...]) -> Server:
    """Make the server of `--from … --to …`. Raises UsageError."""
    if not listen or not upstream:
        raise UsageError("say what to serve: FILE.py, FILE.toml, or --from ADDR and --to URL (see pingora run --help)")
    proxy = ProxyHttp()
    try:
        proxy.upstreams = LoadBalancer([url if ":" in url else f"http://{url}" for url in upstream])
        server = Server()
        server.add_proxy(proxy, listen)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return server


def load_server(program: str) -> Server:
    """Run FILE.py and take its Server: NAME, or `server`. Raises UsageError with the place of what went wrong."""
    file, _, name = program.partition(":")
    path = Path(file)
    if not path.is_file():
        raise no_such_file(file)
    module = import_file(path)
    servers = {key: value for key, value in vars(module).items() if isinstance(value, Server)}
    if not name and "server" not in servers and len(servers) == 1:
        return next(iter(servers.values()))
    name = name or "server"
    if name in servers:
        return servers[name]
    if not servers:
        raise UsageError(f"{file} makes no pingora.Server; add one: server = pingora.Server()")
    other = f", it is {vars(module)[name]!r}" if hasattr(module, name) else ""
    raise UsageError(f"{file}: no pingora.Server named {name!r}{other}; there is: {', '.join(servers)}")


def no_such_file(file: str) -> UsageError:
    """Say that a file is not there, and which one may be meant."""
    if Path(file).is_dir():
        return UsageError(f"{file} is a directory; name a FILE.py or FILE.toml in it")
    near = [file + end for end in (".py", ".toml") if Path(file + end).is_file()]
    return UsageError(f"no such file: {file}" + (f", did you mean {' or '.join(near)}?" if near else ""))


def import_file(path: Path) -> ModuleType:
    """Import a file by its path. Raises UsageError with the place of what went wrong."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    sys.path.insert(0, str(path.resolve().parent))
    is_free = path.stem not in sys.modules and path.stem not in sys.stdlib_module_names
    module = ModuleType(path.stem if is_free else "pingora_program")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses, pickle and the like look there
    token = is_loading.set(True)
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except SystemExit as error:
        raise UsageError(f"{place_of(error, path)}: the file called sys.exit({error.code!r})") from None
    except Exception as error:
        message = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
        kind = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
        raise UsageError(f"{place_of(error, path)}: {kind}{message}".removesuffix(": ")) from None
    finally:
        is_loading.reset(token)
    return module


def place_of(error: BaseException, path: Path) -> str:
    """Give FILE:LINE of a syntax error, or of the innermost frame inside the user's file."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}" if line else str(path)
