"""The command line. Imports only what the command needs: `pingora run` goes on for months with what was imported."""

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["run"]:
        from pingora.cli.start import start

        sys.exit(start())
    from pingora.cli.commands import cli
    from pingora.cli.one_line import run_command

    run_command(cli, None, "pingora")
