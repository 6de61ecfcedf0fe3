"""Commands for an instance that runs. Each waits for the outcome and says it."""

import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import click

from pingora.cli.workers import Workers
from pingora.supervisor import Refused, paths
from pingora.supervisor.control import converse
from pingora.supervisor.status import render


def of_instance(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which instance is meant."""
    control = click.option("--control", metavar="PATH", help="Its control socket. Default: $PINGORA_CONTROL.")
    name = click.option("--name", metavar="NAME", help="Its name, if several run.")
    return control(name(command))


def ask_instance(control: str | None, name: str | None, command: str, **fields: Any) -> dict[str, Any]:
    """Ask the instance that is meant; what it refuses is one line and exit code 1."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            answer = converse(sock, paths.find(control, name), command, **fields)
            os.dup(sock.fileno())  # so that nothing but the end of this process hangs up: a container waits for it
            return answer
    except Refused as error:
        click.echo(f"pingora: {error}", err=True)
        sys.exit(1)


@click.command()
@of_instance
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(control: str | None, name: str | None, as_json: bool) -> None:
    """Show the processes of a running instance."""
    found = ask_instance(control, name, "status")["status"]
    click.echo(json.dumps(found, indent=2) if as_json else render(found))


@click.command()
@of_instance
def reload(control: str | None, name: str | None) -> None:
    """Load the program anew, beside what runs; what is connected is not touched.

    Exit code 1: it was refused, for the reason that is printed, and nothing has changed.
    """
    click.echo(ask_instance(control, name, "reload")["text"])


@click.command()
@of_instance
@click.option("--now", is_flag=True, help="Cut running requests.")
def stop(control: str | None, name: str | None, now: bool) -> None:
    """Stop an instance; running requests have the seconds of its --grace."""
    click.echo(ask_instance(control, name, "stop", now=now)["text"])


@click.command()
@of_instance
@click.option("--exec", "program", metavar="PATH", help="Run this pingora, or Python. Default: as it was started.")
def upgrade(control: str | None, name: str | None, program: str | None) -> None:
    """Replace all processes by those of a new version; it takes over the listening sockets, nothing is refused.

    Exit code 1: the new one could not start, for the reason that is printed, and nothing has changed.
    """
    click.echo(ask_instance(control, name, "upgrade", exec=program and os.path.abspath(program))["text"])


@click.command()
@of_instance
@click.argument("workers", metavar="N|auto", type=Workers(1))
def scale(control: str | None, name: str | None, workers: int) -> None:
    """Have N workers; nothing is lost, surplus ones serve what is connected for up to the seconds of --drain.

    It holds until FILE.toml says another number than it did, or the instance is started anew.
    """
    click.echo(ask_instance(control, name, "scale", workers=workers)["text"])


COMMANDS = (status, reload, upgrade, scale, stop)
