"""The command line of `pingora run`. What it says goes to the process that runs it; see `start`."""

import sys
from collections.abc import Callable
from typing import Any

import click

from pingora.choices import ACCESS_FORMATS
from pingora.program import Program
from pingora.supervisor.board import WORKERS_MOST
from pingora.supervisor.options import Options, auto_workers
from pingora.usage import UsageError

EXAMPLES = """\b
Examples:
  pingora run gateway.py                                the Server named "server" in gateway.py
  pingora run gateway.py:edge --workers 4               another name, four processes
  pingora run pingora.toml                              as a configuration file says
  pingora run --from :8080 --to http://127.0.0.1:3000   no code: a plain proxy
  pingora run --from :8080 --to http://a:80 --to http://b:80 --access-log json
  pingora run --from "tls://:8443?cert=chain.pem&key=key.pem" --to https://app.example.com
"""


class Workers(click.IntRange):
    """A number of workers, or "auto"."""

    def __init__(self) -> None:
        super().__init__(0, WORKERS_MOST)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn "auto" into the number of processors."""
        return auto_workers() if value == "auto" else super().convert(value, param, ctx)


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("program", required=False, metavar="[FILE.py[:NAME]|FILE.toml]")
@click.option(
    "--from",
    "listen",
    multiple=True,
    metavar="ADDR",
    help="Listen on host:port, :port, unix:/path; tls://:port?cert=FILE&key=FILE with TLS.",
)
@click.option(
    "--to", "upstream", multiple=True, metavar="URL", help="Send to http:// or https://host:port; several balance."
)
@click.option(
    "--workers",
    type=Workers(),
    metavar="N|auto",
    help="Worker processes; one that dies is replaced. auto: one per processor; 0: this process. "
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
    help="Time for running requests after SIGTERM; Ctrl-C, or a second signal, cuts them. "
    "Default: what FILE.toml says, else 5.",
)
@click.option(
    "--drain",
    default=300.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Time for what is connected to the workers that a reload replaces.",
)
@click.option(
    "--stuck-after",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="A worker that shows no sign of life for so long is replaced; 0: never.",
)
@click.option("--health", metavar="ADDR", help="Answer GET /live and GET /ready there, and nothing else.")
@click.option(
    "--ready-delay",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="After SIGTERM, go on accepting for so long while /ready says 503.",
)
@click.option("--max-requests", default=0, type=click.IntRange(0), metavar="N", help="Replace a worker after so many.")
@click.option("--max-memory", default=0, type=click.IntRange(0), metavar="MIB", help="Replace a worker that is larger.")
@click.option("--user", metavar="USER", help="Of all processes but the supervisor, which must be root.")
@click.option("--group", metavar="GROUP", help="Of the same. Default: the user's.")
@click.option("--daemon", is_flag=True, help="Return when the instance serves; it goes on without a terminal.")
@click.option(
    "--control", metavar="PATH", help="Of the control socket. Default: NAME.sock beside the pid file or in /run."
)
@click.option("--name", metavar="NAME", help="Of the instance, for `pingora status`. Default: that of the file.")
@click.option("--pid-file", metavar="PATH", help="Write the supervisor's process id there.")
@click.option("--access-log-file", metavar="PATH", help="In place of stdout; SIGUSR1 opens it anew.")
@click.option("--error-log-file", metavar="PATH", help="In place of stderr; SIGUSR1 opens it anew.")
@click.pass_obj
def run(
    hand_over: Callable[[Program, Options], None],
    /,
    program: str | None,
    listen: tuple[str, ...],
    upstream: tuple[str, ...],
    workers: int | None,
    access_log: str | None,
    grace: float | None,
    name: str | None,
    **processes: Any,
) -> None:
    """Serve a proxy written in Python, or a plain one.

    FILE.py makes a pingora.Server; NAME is its variable, "server" if not given. FILE.toml is a configuration; options
    given here hold instead of what it says.
    """
    wanted = Program(program, listen, upstream, access_log)
    try:
        config = wanted.check()
        options = Options(
            workers=workers if workers is not None else config.workers if config else 1,
            grace=grace if grace is not None else config.grace if config else 5.0,
            name=name or wanted.name,
            **processes,
        )
    except UsageError as error:
        click.echo(error.told, err=True)
        sys.exit(2)
    hand_over(wanted, options)
