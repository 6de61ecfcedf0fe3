"""`pingora init`: a folder to start from."""

import shlex
import string
import sys
from pathlib import Path

import click

STARTERS = Path(__file__).parent.parent / "starters"
COMMON = STARTERS / "common"  # what all of them have
KINDS = sorted(path.name for path in STARTERS.iterdir() if path.is_dir() and path != COMMON)

NEXT_STEPS = """
{name} is ready:

  cd {directory}
  python origins.py &     two origins to try it with
  pingora run             then: curl -i {curl}
  pytest                  what it promises (pip install pytest)

pingora.service is for systemd, once it works.
"""
CURLS = {
    "api-gateway": "-H 'x-api-key: secret-of-alice' http://127.0.0.1:8080/users/1",
    "cdn-cache": "http://127.0.0.1:8080/app.0123abcd.js",
    "load-balancer": "http://127.0.0.1:8080/",
    "multi-region": "http://127.0.0.1:8080/",
}


@click.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--starter", type=click.Choice(KINDS), default="load-balancer", show_default=True, help="What it shows.")
def init(directory: Path, starter: str) -> None:
    """Make DIRECTORY with a proxy to start from: a configuration, hooks if it takes any, tests, a unit of systemd.

    Nothing that is there already is changed: if one of the files exists, none is written.
    """
    directory = directory.absolute()
    contents = {
        file.name: file.read_text()
        for place in (COMMON, STARTERS / starter)
        for file in sorted(place.iterdir())
        if file.is_file()
    }
    existing = [name for name in contents if (directory / name).exists()]
    if existing:
        click.echo(f"pingora: {directory} has {', '.join(existing)} already; name another directory", err=True)
        sys.exit(2)
    unit = string.Template(contents["pingora.service"])
    contents["pingora.service"] = unit.substitute(
        name=directory.name,
        described=without_specifiers(directory.name),
        directory=without_specifiers(str(directory)),
        python=without_specifiers(shlex.quote(sys.executable)),
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (directory / name).write_text(text)
            click.echo(f"  {name}")
    except OSError as error:
        click.echo(f"pingora: {error.filename}: {error.strerror}", err=True)
        sys.exit(2)
    shown = shlex.quote(str(directory))
    click.echo(NEXT_STEPS.format(name=directory.name, directory=shown, curl=CURLS[starter]).rstrip())


def without_specifiers(text: str) -> str:
    """Write a text as a unit of systemd takes it literally: `%` begins a specifier there (systemd.unit(5))."""
    return text.replace("%", "%%")
