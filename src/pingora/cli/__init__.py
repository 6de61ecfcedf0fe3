"""The command line: `pingora run`, `pingora version`."""

import runpy
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

import pingora
from pingora import LoadBalancer, ProxyHttp, Server
from pingora.server import ACCESS_FORMATS, UsageError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A programmable HTTP proxy: hooks in Python, every byte carried by a compiled core."""


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"pingora {pingora.__version__} (Python {sys.version.split()[0]})")


@cli.command()
@click.argument("program", required=False, metavar="[FILE.py[:NAME]]")
@click.option("--from", "listen", multiple=True, metavar="ADDR", help="Listen on host:port, :port or unix:/path.")
@click.option("--to", "upstream", multiple=True, metavar="URL", help="Send to http://host:port; several balance.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(0, 256), help="Processes; 0: this one.")
@click.option("--access-log", type=click.Choice(list(ACCESS_FORMATS)), help="Default: combined, off for a file.")
def run(
    program: str | None, listen: tuple[str, ...], upstream: tuple[str, ...], workers: int, access_log: str | None
) -> None:
    """Serve a proxy written in FILE.py, or a plain one from --from ADDR to --to URL."""
    try:
        if program:
            if listen or upstream:
                raise UsageError("give a file, or --from and --to, not both")
            server = load_server(program)
        else:
            server = plain_server(listen, upstream)
            server.access_log = "combined"
    except UsageError as error:
        fail(str(error))
    if access_log:
        server.access_log = access_log
    server.run(workers)


def fail(message: str) -> None:
    """Print one line and exit with code 2."""
    click.echo(f"pingora: {message}", err=True)
    sys.exit(2)


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
    name = name or "server"
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"no such file: {file}")
    sys.path.insert(0, str(path.resolve().parent))
    try:
        names = runpy.run_path(str(path), run_name="pingora_program")
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{place_of(error, path)}: {type(error).__name__}: {error}") from None
    found = names.get(name)
    if not isinstance(found, Server):
        raise UsageError(f"{file}: no pingora.Server named {name!r}" + ("" if found is None else f", it is {found!r}"))
    return found


def place_of(error: Exception, path: Path) -> str:
    """Give FILE:LINE of the innermost frame inside the user's file."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}"


def main() -> None:
    """Run the command line."""
    cli(prog_name="pingora")
