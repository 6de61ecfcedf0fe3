"""Makes the Server that a program is: runs a user's file, or builds a plain proxy."""

import sys
from pathlib import Path
from types import ModuleType

from pingora.load_balancing import LoadBalancer
from pingora.program import Program, no_such_file
from pingora.proxy import ProxyHttp
from pingora.server import Server
from pingora.tcp import TcpProxy
from pingora.tls import UpstreamTls
from pingora.tls.targets import has_port
from pingora.usage import UsageError, is_loading


def load(program: Program, text: str | None = None) -> Server:
    """Make the Server of a program; `text` is in place of what a configuration's file has. Raises UsageError."""
    if program.config_file is not None:
        # Only here: other programs need neither. The second is for workers, which share what is imported before them.
        from pingora.config.build import load_config
        from pingora.config.reloader import Reloader  # noqa: F401

        server: Server = load_config(program.config_file, text, access_log=program.access_log)
    elif program.file is not None:
        server = load_server(program.file)
    else:
        server = plain_server(program.listen, program.upstream)
        server.access_log = "combined"
    if program.access_log:
        server.access_log = program.access_log
    return server


def plain_server(listen: tuple[str, ...], upstream: tuple[str, ...]) -> Server:
    """Make the server of `--from … --to …`. Raises UsageError."""
    proxy: ProxyHttp | TcpProxy = ProxyHttp()
    try:
        if any(url.startswith("tcp://") for url in (*listen, *upstream)):
            proxy = TcpProxy()
            proxy.upstreams = LoadBalancer([tcp_target(url) for url in upstream], tls=UpstreamTls(alpn=()))
        else:
            proxy.upstreams = LoadBalancer([http_target(url) for url in upstream])
        server = Server()
        server.add_proxy(proxy, listen)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return server


def http_target(url: str) -> str:
    """Give an upstream of a ProxyHttp: a name alone is one of http. Raises ValueError."""
    if url.isdecimal():
        raise ValueError(f"upstream {url!r}: expected http://host:port, as in http://127.0.0.1:{url}")
    return url if ":" in url else f"http://{url}"


def tcp_target(url: str) -> str:
    """Give an upstream of a TcpProxy as one of HTTP is written: without TLS, or with. Raises ValueError."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("tcp", "tls"):
        raise ValueError(f"upstream {url!r}: expected tcp://host:port or tls://host:port beside tcp://")
    if not rest.startswith("unix:") and not has_port(rest.partition("?")[0]):
        raise ValueError(f"upstream {url!r}: expected a port")
    return ("http://" if scheme == "tcp" else "https://") + rest


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
    except BaseException as error:  # also a KeyboardInterrupt that the file raises
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
