"""The workflow builds the wheels that pyproject.toml names, no more and no fewer."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WORKFLOW = ROOT / ".github" / "workflows" / "wheels.yml"
PYTHONS = ("cp311", "cp312", "cp313", "cp314", "cp314t")

pytestmark = pytest.mark.skipif(
    not (WORKFLOW.exists() and find_spec("cibuildwheel")), reason="needs the whole checkout, and cibuildwheel"
)


def workflow():
    from ruamel.yaml import YAML  # comes with check-jsonschema

    return YAML(typ="safe").load(WORKFLOW)["jobs"]["wheels"]


def environment_of(job, row):
    """Give the environment of the step that builds, for one row of the matrix."""
    (step,) = [step for step in job["steps"] if "cibuildwheel" in step.get("uses", "")]
    values = dict(step["env"])
    for name, value in row.items():
        values = {key: text.replace(f"${{{{ matrix.{name} }}}}", value) for key, text in values.items()}
    assert not any("${{" in text for text in values.values()), values
    return values


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize("libc", ["manylinux", "musllinux"])
def test_each_job_builds_each_python_for_its_platform(libc, arch):
    job = workflow()
    matrix = job["strategy"]["matrix"]
    assert libc in matrix["libc"]
    assert arch in matrix["arch"]
    (more,) = [row for row in matrix["include"] if row["libc"] == libc]
    printed = subprocess.run(
        [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", "linux", ROOT],
        env={**os.environ, **environment_of(job, {**more, "arch": arch})},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.split() == [f"{python}-{libc}_{arch}" for python in PYTHONS]
