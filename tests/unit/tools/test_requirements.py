"""What the set-up installs is what pyproject.toml says."""

from importlib import metadata

import pytest
import requirements

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
[project]
dependencies = ["click>=8.1"]
[project.optional-dependencies]
test = ["pytest>=8.3"]
fuzz = ["atheris>=3.0"]
"""


def test_extras_are_added_to_build_and_runtime(tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text(PROJECT)
    assert requirements.requirements(project, []) == ["setuptools>=77", "click>=8.1"]
    assert requirements.requirements(project, ["fuzz"]) == ["setuptools>=77", "click>=8.1", "atheris>=3.0"]
    with pytest.raises(KeyError):
        requirements.requirements(project, ["none"])


@pytest.mark.parametrize(
    ("requirement", "installed", "is_met"),
    [
        pytest.param("a", "0.1", True, id="any"),
        pytest.param("a>=1.2", "1.2", True, id="least"),
        pytest.param("a>=1.2", "1.2.0", True, id="least with a zero"),
        pytest.param("a>=1.2", "1.10", True, id="numbers, not text"),
        pytest.param("a>=1.2", "1.1.9", False, id="too old"),
        pytest.param("a>=3.3,<3.4", "3.3.1", True, id="inside"),
        pytest.param("a>=3.3,<3.4", "3.4", False, id="too new"),
        pytest.param("a >= 3, < 4", "4.0.0", False, id="too new, with spaces"),
        pytest.param("a>=1", "2026.10.19.post1", True, id="post release"),
    ],
)
def test_installed_version_is_compared(monkeypatch, requirement, installed, is_met):
    monkeypatch.setattr(metadata, "version", lambda name: installed)
    assert requirements.is_met(requirement) is is_met


def test_missing_package_is_not_met():
    assert not requirements.is_met("a-distribution-that-does-not-exist>=1")


def test_everything_that_the_project_names_can_be_read():
    for requirement in requirements.requirements(requirements.PROJECT, ["test", "fuzz"]):
        requirements.is_met(requirement)
