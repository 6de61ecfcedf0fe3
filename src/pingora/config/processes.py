"""What pingora.toml says about the processes themselves, beside what the command line says."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pingora.config.model import Config
from pingora.supervisor.options import Options, find_group, find_user, key_of

PATHS = ("control", "pid_file", "access_log_file", "error_log_file")  # relative to the file


def make_options(given: Mapping[str, Any], config: Config, name: str) -> Options:
    """Make the options of an instance: those that were `given`, else the file's.

    `name` is that of an instance without a name. Raises ConfigError: there is no such user or group.
    """
    values = {**of_file(config), **given}
    return Options(**{**values, "name": values.get("name") or name})


def check_processes(config: Config) -> None:
    """Find what `pingora run` could not do as a file says. Raises ConfigError."""
    values, source = of_file(config), config.source
    if not values["workers"]:
        for option in ("user", "group"):
            if values[option] is not None:
                source.value_problem((option,), "it is for worker processes, and workers = 0; leave one of them out")
        source.check()
        return
    for option in PATHS:
        path = Path(values[option] or "")
        if values[option] is None:
            continue
        if path.is_dir():
            source.value_problem(tuple(key_of(option).split(".")), "it is a directory; name a file in it")
        elif not path.parent.is_dir():
            source.value_problem(
                tuple(key_of(option).split(".")), f"there is no directory {path.parent}; make it first"
            )
    source.check()


def of_file(config: Config) -> dict[str, Any]:
    """Give what a file says. Raises ConfigError."""
    values: dict[str, Any] = {}
    for option in (field.name for field in fields(Options)):
        value: Any = config
        for part in key_of(option).split("."):
            value = getattr(value, part)
        if option in PATHS and value is not None:
            value = str(Path(config.source.name).parent / value)
        values[option] = value
    for option, find in (("user", find_user), ("group", find_group)):
        if values[option] is not None:
            try:
                find(values[option])
            except KeyError:
                config.source.value_problem((option,), f"there is no such {option}")
    config.source.check()
    return values
