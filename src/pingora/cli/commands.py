"""All commands: `pingora run` and `pingora version`; `operate`, `check` and `cert` have the others."""

import sys

import click

import pingora
from pingora.cli import operate
from pingora.cli.cert import cert
from pingora.cli.check import check
from pingora.cli.run import run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A programmable HTTP proxy: hooks in Python, every byte carried by a compiled core."""


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"pingora {pingora.__version__} (Python {sys.version.split()[0]})")


for command in (run, cert, check, *operate.COMMANDS):
    cli.add_command(command)
