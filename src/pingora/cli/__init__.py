"""The command line: `pingora run`, `pingora check`, `pingora version`."""

import signal
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import click

import pingora
from pingora import LoadBalancer, ProxyHttp, Server
from pingora.config import ConfigError, ConfiguredServer, load_config
from pingora.reload import listen_key
from pingora.server import ACCESS_FORMATS, Site, UsageError, is_loading

EXAMPLES = """\b
Examples:
  pingora run gateway.py                                the Server named "server" in gateway.py
  pingora run gateway.py:edge --workers 4               another name, four processes
  pingora run pingora.toml                              as a configuration file says
  pingora run --from :8080 --to http://127.0.0.1:3000   no code: a plain proxy
  pingora run --from :8080 --to http://a:80 --to http://b:80 --access-log json
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A programmable HTTP proxy: hooks in Python, every byte carried by a compiled core."""


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"pingora {pingora.__version__} (Python {sys.version.split()[0]})")


@cli.command(epilog=EXAMPLES)
@click.argument("program", required=False, metavar="[FILE.py[:NAME]|FILE.toml]")
@click.option("--from", "listen", multiple=True, metavar="ADDR", help="Listen on host:port, :port or unix:/path.")
@click.option("--to", "upstream", multiple=True, metavar="URL", help="Send to http://host:port; several balance.")
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    metavar="N",
    help="Worker processes; one that dies is replaced. 0 serves in this process, for debuggers. "
    "Default: what FILE.toml says, else 1.",
)
@click.option(
    "--access-log",
    type=click.Choice(list(ACCESS_FORMATS)),
    help="One line per request on stdout. Default: what the file says (FILE.py: else off); combined without a file.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Time for running requests after Ctrl-C or SIGTERM; a second signal cuts them. "
    "Default: what FILE.toml says, else 5.",
)
def run(
    program: str | None,
    listen: tuple[str, ...],
    upstream: tuple[str, ...],
    workers: int | None,
    access_log: str | None,
    grace: float | None,
) -> None:
    """Serve a proxy written in Python, or a plain one.

    FILE.py makes a pingora.Server; NAME is its variable, "server" if not given. FILE.toml is a configuration, read anew
    at SIGHUP; options given here hold instead of what it says.
    """
    try:
        if program:
            if listen or upstream:
                raise UsageError("give a file, or --from and --to, not both")
            server = load_program(program)
        else:
            server = plain_server(listen, upstream)
            server.access_log = "combined"
    except UsageError as error:
        fail(error)
    config = server.config if isinstance(server, ConfiguredServer) else None
    if access_log:
        server.access_log = access_log
    if workers is None:
        workers = config.workers if config else 1
    if grace is None:
        grace = config.grace if config else 5.0
    reloads = (signal.SIGHUP,) if config else ()
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, *reloads))  # until run() has handlers
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # what run() comes back to: a second Ctrl-C does not disturb the end
    server.run(workers, grace=grace)


@cli.command()
@click.argument("program", metavar="FILE")
def check(program: str) -> None:
    """Say what FILE.toml or FILE.py[:NAME] would serve, or all that is wrong with it.

    Hooks are imported and constructed, names resolved, but nothing listens. Exits with code 2 if it cannot be served.
    """
    try:
        server = load_program(program)
        server.check()
        for site in server.sites:
            for address in site.addresses:
                check_address(address)
    except UsageError as error:
        fail(error)
    click.echo(f"{program}: ok, {'; '.join(describe(site) for site in server.sites)}")


def check_address(address: str) -> None:
    """Raise UsageError for what is no address to listen on."""
    try:
        listen_key(address)
    except ValueError as error:
        raise UsageError(f"cannot listen on {address!r}: {error}") from None


def describe(site: Site) -> str:
    """Say what a site serves, and where."""
    text = f"{type(site.proxy).__name__} on {', '.join(site.addresses)}"
    if site.balancer is not None:
        number = len(site.balancer.endpoints)
        text += f" to {number} upstream{'s' if number > 1 else ''} by {type(site.balancer.selection).__name__}"
    return text


def fail(error: UsageError | str) -> None:
    """Print what is wrong, each fault in a line, and exit with code 2."""
    click.echo(str(error) if isinstance(error, ConfigError) else f"pingora: {error}", err=True)
    sys.exit(2)


def load_program(program: str) -> Server:
    """Make the server of a program or a configuration. Raises UsageError."""
    return load_config(program) if program.endswith(".toml") else load_server(program)


def plain_server(listen: tuple[str, ...], upstream: tuple[str, ...]) -> Server:
    """Make the server of `--from … --to …`. Raises UsageError."""
    if not listen or not upstream:
        raise UsageError("say what to serve: FILE.py, or --from ADDR and --to URL (see pingora run --help)")
    proxy = ProxyHttp()
    try:
        proxy.upstreams = LoadBalancer([upstream_address(url) for url in upstream])
    except ValueError as error:
        raise UsageError(str(error)) from None
    server = Server()
    server.add_proxy(proxy, listen)
    return server


def upstream_address(url: str) -> str:
    """Turn a --to URL into an address. Raises UsageError."""
    if url.startswith("unix:"):
        return url
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise UsageError(f"--to {url!r}: expected http://host:port or unix:/path")
    try:
        port = parts.port or 80
    except ValueError as error:
        raise UsageError(f"--to {url!r}: {error}") from None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


def load_server(program: str) -> Server:
    """Run FILE.py and take its Server: NAME, or `server`. Raises UsageError with the place of what went wrong."""
    file, _, name = program.partition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"no such file: {file}")
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


def main() -> None:
    """Run the command line."""
    cli(prog_name="pingora")
