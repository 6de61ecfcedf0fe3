"""The command line of `pingora run`. What it says goes to the process that runs it; see `start`."""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from pingora.choices import ACCESS_FORMATS, INSTANCE_NAME, WANTED_INSTANCE_NAME
from pingora.cli.workers import Workers
from pingora.limits import DAY, DESCRIPTORS_LEAST, DESCRIPTORS_MOST, MEMORY_LEAST
from pingora.program import Program
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.options import Options
from pingora.supervisor.reading import read_given_files
from pingora.usage import UsageError

DEFAULT_FILE = "pingora.toml"

EXAMPLES = """\b
Examples:
  pingora run gateway.py                                the Server named "server" in gateway.py
  pingora run gateway.py:edge --workers 4               another name, four processes
  pingora run pingora.toml                              as a configuration file says
  pingora run --from :8080 --to http://127.0.0.1:3000   no code: a plain proxy
  pingora run --from :8080 --to http://a:80 --to http://b:80 --access-log json
  pingora run --from "tls://:8443?cert=chain.pem&key=key.pem" --to https://app.example.com
  pingora run --from tcp://:5432 --to tcp://10.0.0.1:5432       any protocol, byte for byte
"""


class Mebibytes(click.IntRange):
    """A number of MiB, in bytes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn it into bytes."""
        size: int = super().convert(value, param, ctx) * 1024 * 1024
        if 0 < size < MEMORY_LEAST:
            self.fail(f"{value} MiB is less than a worker needs; give 0 for no limit, or 64 and more", param, ctx)
        return size


class Seconds(click.FloatRange):
    """A time in seconds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it; NaN, which no comparison leaves out, is none."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"expected seconds from 0 to {DAY}, got {value}", param, ctx)
        return seconds


class InstanceName(click.types.StringParamType):
    """The name of an instance."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check it."""
        if not re.fullmatch(INSTANCE_NAME, value):
            self.fail(f"{WANTED_INSTANCE_NAME}, got {value!r}", param, ctx)
        return value


# How an option is written, by its metavar.
SECONDS, COUNT, MIB, DESCRIPTORS, NAME = "SECONDS", "N", "MIB", "N of descriptors", "NAME"
TYPES: dict[str, Any] = {
    SECONDS: Seconds(0, DAY),
    COUNT: click.IntRange(0),
    MIB: Mebibytes(0),
    DESCRIPTORS: click.IntRange(DESCRIPTORS_LEAST, DESCRIPTORS_MOST),
    NAME: InstanceName(),
}


def process_option(name: str, metavar: str, text: str) -> Callable[[Any], Any]:
    """Add an option of the processes, which FILE.toml may have under the same name; its default is in the text."""
    default = getattr(Options, name)
    if default is not None and name != "name":
        text += f" Default: {default:g}."
    flag = f"--{name.replace('_', '-')}"
    return click.option(flag, name, metavar=metavar.split()[0], type=TYPES.get(metavar, click.STRING), help=text)


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("program", required=False, metavar="[FILE.py[:NAME]|FILE.toml]")
@click.option(
    "--from",
    "listen",
    multiple=True,
    metavar="ADDR",
    help="Listen on host:port, :port, unix:/path; tls://:port?cert=FILE&key=FILE with TLS; tcp://:port: any protocol.",
)
@click.option(
    "--to",
    "upstream",
    multiple=True,
    metavar="URL",
    help="Send to http://, https:// or h2c://host:port; several balance. Beside tcp://: tcp:// or tls://host:port.",
)
@click.option(
    "--workers",
    type=Workers(0),
    metavar="N|auto",
    help="Worker processes; one that dies is replaced. auto: one per processor; 0: this process. "
    "Default: what FILE.toml says, else 1.",
)
@click.option(
    "--access-log",
    type=click.Choice(list(ACCESS_FORMATS)),
    help="One line per request on stdout. Default: what the file says (FILE.py: else off); combined without a file.",
)
@process_option("grace", SECONDS, "Time for running requests after SIGTERM; Ctrl-C, or a second signal, cuts them.")
@process_option("drain", SECONDS, "Time for what is connected to the workers that a reload replaces.")
@process_option("stuck_after", SECONDS, "A worker that shows no sign of life for so long is replaced; 0: never.")
@process_option("health", "ADDR", "Answer GET /live and GET /ready there, and nothing else.")
@process_option("metrics", "ADDR", "Show the metrics of all workers there. Default: as the program says.")
@process_option("ready_delay", SECONDS, "After SIGTERM, go on accepting for so long while /ready says 503.")
@process_option("max_requests", COUNT, "Replace a worker after so many.")
@process_option("max_memory", MIB, "Replace a worker that is larger.")
@process_option("descriptors", DESCRIPTORS, "Limit of open descriptors of each process. Default: the hard limit.")
@process_option("user", "USER", "Of all processes but the supervisor, which must be root.")
@process_option("group", "GROUP", "Of the same. Default: the user's.")
@click.option(
    "--daemon", is_flag=True, default=None, help="Return when the instance serves; it goes on without a terminal."
)
@process_option("control", "PATH", "Of the control socket. Default: NAME.sock beside the pid file or in /run.")
@process_option("name", NAME, "Of the instance, for `pingora status`. Default: that of the file.")
@process_option("pid_file", "PATH", "Write the supervisor's process id there.")
@process_option("access_log_file", "PATH", "In place of stdout; SIGUSR1 opens it anew.")
@process_option("error_log_file", "PATH", "In place of stderr; SIGUSR1 opens it anew.")
@click.pass_obj
def run(
    hand_over: Callable[[Program, Options, dict[str, Any], GivenFiles], None],
    /,
    program: str | None,
    listen: tuple[str, ...],
    upstream: tuple[str, ...],
    access_log: str | None,
    **processes: Any,
) -> None:
    """Serve a proxy written in Python, or a plain one. Without anything said, serve pingora.toml of this directory.

    FILE.py makes a pingora.Server; NAME is its variable, "server" if not given. FILE.toml is a configuration; options
    given here hold instead of what it says, under the same name.
    """
    if program is None and not listen and not upstream and Path(DEFAULT_FILE).exists():
        program = DEFAULT_FILE
    wanted = Program(program, listen, upstream, access_log)
    given = {name: value for name, value in processes.items() if value is not None}
    try:
        options = options_of(wanted, given)
        if options.workers == 0:
            check_alone(options)
        files = read_given_files(wanted)
    except UsageError as error:
        click.echo(error.told, err=True)
        sys.exit(2)
    hand_over(wanted, options, given, files)


def options_of(program: Program, given: dict[str, Any]) -> Options:
    """Give the options of the processes: those that were given, else the file's. Raises UsageError."""
    config = program.check("user" in given or "group" in given)
    if config is None:
        return Options(**{**given, "name": given.get("name", program.name)})
    from pingora.config.processes import make_options  # only here: other programs need none of it

    return make_options(given, config, program.name)


def check_alone(options: Options) -> None:
    """Say which options are of no use without worker processes. Raises UsageError."""
    without = replace(Options(), workers=0, grace=options.grace, name=options.name, metrics=options.metrics)
    given = [field.name for field in fields(Options) if getattr(options, field.name) != getattr(without, field.name)]
    for name in ("user", "group"):
        if name in given:
            raise UsageError(f"{name} is for worker processes, and there are 0")
    if given:
        click.echo(f"pingora: with 0 workers there is no use for {', '.join(given)}", err=True)
