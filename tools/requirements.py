"""Print what pyproject.toml requires for the build, for running, and for the extras named; one requirement a line.

With --check: print nothing, exit 0 if all of it is installed already. Runs before anything is installed.
"""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def requirements(project: Path, extras: list[str]) -> list[str]:
    """Return the requirements of build, runtime and `extras`; raise KeyError for an unknown extra."""
    content = tomllib.loads(project.read_text())
    wanted = [*content["build-system"]["requires"], *content["project"]["dependencies"]]
    for extra in extras:
        wanted += content["project"]["optional-dependencies"][extra]
    return wanted


def is_met(requirement: str) -> bool:
    """Return True if an installed distribution meets a requirement of the form `name>=1.2,<3`."""
    name, bounds = re.fullmatch(r"([\w.-]+)\s*(.*)", requirement).groups()
    try:
        installed = version_of(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False
    for bound in filter(None, (part.strip() for part in bounds.split(","))):
        operator, number = re.fullmatch(r"(>=|<)\s*([\d.]+)", bound).groups()
        if (installed >= version_of(number)) != (operator == ">="):
            return False
    return True


def version_of(text: str) -> tuple[int, ...]:
    """Return the release numbers of a version without its final zeros, so that 2.0 equals 2."""
    numbers = [int(number) for number in re.match(r"\d+(\.\d+)*", text)[0].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def main(arguments: list[str]) -> int:
    """Print or check; return the exit code."""
    wanted = requirements(PROJECT, [argument for argument in arguments if argument != "--check"])
    if "--check" in arguments:
        return 0 if all(map(is_met, wanted)) else 1
    print("\n".join(wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
