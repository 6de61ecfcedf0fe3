"""Options of the processes: the same in pingora.toml and on the command line."""

import dataclasses

import click
import pytest

from pingora.cli.run import run
from pingora.config.processes import make_options
from pingora.config.reader import keys_of, read_config
from pingora.supervisor.options import Options, key_of

NAMES = [field.name for field in dataclasses.fields(Options)]
SERVED = 'listeners = [":8080"]\nupstreams.endpoints = ["127.0.0.1:9001"]\n'


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_a_key_and_an_option_of_the_command_line(name):
    assert tuple(key_of(name).split(".")) in {path for path, _ in keys_of()}
    assert name in {parameter.name for parameter in run.params}


def test_a_file_without_options_has_the_defaults():
    assert make_options({}, read_config("p.toml", SERVED), "edge") == Options(name="edge")


def test_a_worker_may_have_64_mib_at_least():
    assert make_options({}, read_config("p.toml", f"max_memory = 0\n{SERVED}"), "p").max_memory == 0
    assert make_options({}, read_config("p.toml", f"max_memory = 67_108_864\n{SERVED}"), "p").max_memory == 64 << 20
    assert run.make_context("run", ["--max-memory", "64"]).params["max_memory"] == 64 << 20
    assert run.make_context("run", ["--max-memory", "0"]).params["max_memory"] == 0
    with pytest.raises(click.BadParameter, match="63 MiB is less than a worker needs; give 0 for no limit, or 64"):
        run.make_context("run", ["--max-memory", "63"])


def test_paths_are_beside_the_file_and_what_is_given_holds():
    lines = 'pid_file = "p.pid"\ncontrol = "/run/c"\nname = "a"\nmax_memory = "200MiB"\ndrain = "1m"\n'
    config = read_config("conf/p.toml", f'{lines}logs.access_file = "x"\n{SERVED}')
    expected = Options(
        pid_file="conf/p.pid", control="/run/c", name="a", max_memory=200 << 20, access_log_file="conf/x", drain=60
    )
    assert make_options({}, config, "p") == expected
    given = {"pid_file": "x.pid", "drain": 1.0, "name": "b"}
    assert make_options(given, config, "p") == dataclasses.replace(expected, **given)
