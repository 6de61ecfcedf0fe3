"""`pingora check`: what would be served, or all that is wrong."""

import sys
from typing import NoReturn

import click

from pingora.config.build import ConfiguredServer
from pingora.config.processes import check_processes
from pingora.loading import load
from pingora.program import Program
from pingora.server import Site
from pingora.supervisor.sockets import keys_of
from pingora.supervisor.zygote import check_threads
from pingora.usage import UsageError


@click.command()
@click.argument("program", metavar="[FILE]", default="pingora.toml")
def check(program: str) -> None:
    """Say what FILE.toml or FILE.py[:NAME] would serve, or all that is wrong with it. Default: pingora.toml.

    Hooks are imported and constructed, names resolved, but nothing listens. Exits with code 2 if it cannot be served.
    """
    try:
        server = load(Program(program))
        server.check()
        server.check_addresses()
        keys_of(server.addresses)
        if isinstance(server, ConfiguredServer):
            check_processes(server.config)
        if not isinstance(server, ConfiguredServer) or server.config.workers:
            check_threads()
    except UsageError as error:
        fail(error)
    click.echo(f"{program}: ok, {'; '.join(describe(site) for site in server.sites)}")


def describe(site: Site) -> str:
    """Say what a site serves, and where."""
    text = f"{type(site.proxy).__name__} on {', '.join(site.addresses)}"
    if site.balancer is not None:
        number = len(site.balancer.endpoints)
        text += f" to {number} upstream{'s' if number > 1 else ''} by {type(site.balancer.selection).__name__}"
    return text


def fail(error: UsageError | str) -> NoReturn:
    """Print what is wrong, each fault in a line, and exit with code 2."""
    click.echo(error.told if isinstance(error, UsageError) else f"pingora: {error}", err=True)
    sys.exit(2)
