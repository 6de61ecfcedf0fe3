"""`pingora init`: a folder to start from."""

import os
import shlex
import string
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import pingora

STARTERS = Path(__file__).parent.parent / "starters"
COMMON = STARTERS / "common"  # what all of them have
KINDS = sorted(path.name for path in STARTERS.iterdir() if path.is_dir() and path != COMMON)
# Other users may not enter them, and a service has a user of its own (systemd would say 200/CHDIR, 203/EXEC).
HOMES = [Path(home) for home in ("/home", "/root", os.path.expanduser("~")) if home != "/"]

NEXT_STEPS = """
{name} is ready:

  cd {directory}
  python origins.py &     two origins to try it with
  pingora run             then: curl -i {curl}
  pytest                  what it promises (pip install pytest)

pingora.service is for systemd, once it works: it begins with the commands to install it in {place}.
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
    place = Path("/srv", directory.name) if is_in_home(directory) else directory
    # Of a virtual environment the interpreter that it was made of counts, too.
    needed = (Path(sys.executable), Path(sys.executable).resolve(), Path(pingora.__file__))
    needs_python = any(is_in_home(path) for path in needed)
    python = place / "venv" / "bin" / "python" if needs_python else Path(sys.executable)
    unit = string.Template(contents["pingora.service"])
    contents["pingora.service"] = unit.substitute(
        name=directory.name,
        commands="\n".join(f"#   {command}" for command in commands_to_install(directory, place, needs_python)),
        described=without_specifiers(directory.name),
        directory=without_specifiers(str(place)),
        python=without_specifiers(shlex.quote(str(python))),
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
    click.echo(NEXT_STEPS.format(name=directory.name, directory=shown, curl=CURLS[starter], place=place).rstrip())


def is_in_home(path: Path) -> bool:
    """Whether a path lies in a home."""
    return any(path.is_relative_to(home) for home in HOMES)


def commands_to_install(directory: Path, place: Path, needs_python: bool) -> Iterator[str]:
    """Give the commands that make a service of a project, for root; it is copied to `place`, if that is elsewhere."""
    name, there = shlex.quote(directory.name), shlex.quote(str(place))
    if place != directory:
        yield f"cp -r {shlex.quote(str(directory))} {there}"
    if needs_python:
        yield f"python3 -m venv {there}/venv"
        yield f"{there}/venv/bin/pip install pingora"
    yield f"useradd --system {name}"
    yield f"chown -R {name}: {there}"
    yield f"cp {there}/pingora.service /etc/systemd/system/{name}.service"
    yield f"systemctl enable --now {name}"


def without_specifiers(text: str) -> str:
    """Write a text as a unit of systemd takes it literally: `%` begins a specifier there (systemd.unit(5))."""
    return text.replace("%", "%%")
