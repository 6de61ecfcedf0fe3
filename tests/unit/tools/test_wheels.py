"""The workflow builds the wheels that pyproject.toml names, no more and no fewer."""

import itertools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WORKFLOW = ROOT / ".github" / "workflows" / "wheels.yml"

pytestmark = pytest.mark.skipif(
    not (WORKFLOW.exists() and find_spec("cibuildwheel")), reason="needs the whole checkout, and cibuildwheel"
)


def environments():
    """Give the environment of the step that builds, for each job that the matrix makes."""
    from ruamel.yaml import YAML  # comes with check-jsonschema

    job = YAML(typ="safe").load(WORKFLOW)["jobs"]["wheels"]
    (step,) = [step for step in job["steps"] if "cibuildwheel" in step.get("uses", "")]
    matrix = job["strategy"]["matrix"]
    for values in itertools.product(*matrix.values()):
        environment = dict(step["env"])
        for name, value in zip(matrix, values, strict=True):
            environment = {key: text.replace(f"${{{{ matrix.{name} }}}}", value) for key, text in environment.items()}
        assert not any("${{" in text for text in environment.values()), environment
        yield environment


def identifiers(environment):
    """Ask cibuildwheel for what it would build."""
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", "linux", ROOT]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CIBW_")}
    return subprocess.run(
        command, env=inherited | environment, capture_output=True, text=True, check=True
    ).stdout.split()


def test_each_wheel_that_pyproject_names_has_a_job():
    named = identifiers({"CIBW_ARCHS": "x86_64 aarch64"})
    assert len(named) == 20
    assert sorted(environment["CIBW_BUILD"] for environment in environments()) == sorted(named)


@pytest.mark.parametrize("name", ["cp311-manylinux_x86_64", "cp314t-musllinux_aarch64"])
def test_a_job_builds_its_wheel_and_no_other(name):
    (environment,) = [environment for environment in environments() if environment["CIBW_BUILD"] == name]
    assert identifiers(environment) == [name]
