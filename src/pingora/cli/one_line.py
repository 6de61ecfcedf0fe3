"""Runs a command, and says in one line what is wrong with how it is used."""

import sys
from typing import Any, NoReturn

import click


def run_command(command: click.Command, arguments: list[str] | None, prog_name: str, obj: Any = None) -> NoReturn:
    """Run a command and end the process with its exit code. Without `arguments` they are the process's."""
    try:
        sys.exit(command.main(arguments, prog_name, standalone_mode=False, obj=obj))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        click.echo(f"pingora: {error.format_message()}", err=True)
        code = error.exit_code
    except click.Abort:  # by Ctrl-C
        code = 1
    sys.exit(code)
