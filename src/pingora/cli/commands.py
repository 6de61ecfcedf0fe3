"""All commands: `pingora run` and `pingora version`; `operate`, `check` and `cert` have the others."""

import sys

import click

import pingora
from pingora.cli import operate
from pingora.cli.cert import cert
from pingora.cli.check import check
from pingora.cli.init import init
from pingora.cli.run import run
from pingora_c.base.linked import build_facts

VERSION = f"pingora {pingora.__version__} (Python {sys.version.split()[0]})"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(message=VERSION, version=pingora.__version__)
def cli() -> None:
    """A programmable HTTP proxy: hooks in Python, every byte carried by a compiled core."""


@cli.command()
@click.option("--build", is_flag=True, help="Print the libraries it is linked with, too.")
def version(build: bool) -> None:
    """Print the version."""
    click.echo(VERSION)
    if build:
        for name, number in build_facts().items():
            click.echo(f"{name:<9} {number}")


for command in (run, init, cert, check, *operate.COMMANDS):
    cli.add_command(command)
