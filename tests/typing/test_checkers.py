"""What type checkers say about hooks: nothing where all is right, and each mistake where it is."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pingora
import pingora_c

HERE = Path(__file__).parent
SOURCES = Path(pingora.__file__).parents[1]
PYRIGHT = [sys.executable, "-m", "pyright"]


def run(command):
    environment = os.environ | {"MYPYPATH": str(SOURCES)} if SOURCES.name == "src" else os.environ
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def mypy(tmp_path, name):
    ended = run([sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", str(HERE / name)])
    found = re.findall(rf"{re.escape(name)}:(\d+): error: (.*)", ended.stdout)
    assert ended.returncode == bool(found), ended.stdout + ended.stderr
    return {int(line): text for line, text in found}


def pyright(tmp_path, name):
    if run([*PYRIGHT, "--version"]).returncode:
        pytest.skip("pyright cannot run; at its first start it fetches itself, and node if there is none")
    settings = {"include": [str(name)], "pythonVersion": "3.11", "extraPaths": [str(SOURCES)]}
    shutil.copy(HERE / name, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    ended = run([*PYRIGHT, "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path)])
    found = json.loads(ended.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1: one["message"] for one in found}


@pytest.mark.parametrize("package", [pingora, pingora_c], ids=lambda package: package.__name__)
def test_each_package_says_that_it_is_typed(package):
    assert (Path(package.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_nothing_is_wrong_with_what_is_right(tmp_path, checker):
    assert checker(tmp_path, "right.py") == {}


@pytest.mark.parametrize(
    ("checker", "name"),
    [(mypy, "mistakes.py"), (pyright, "mistakes.py"), (pyright, "without_annotations.py")],
)
def test_every_mistake_is_flagged_where_it_is(tmp_path, checker, name):
    lines = enumerate((HERE / name).read_text().splitlines(), 1)
    mistakes = {number for number, line in lines if re.search(r"\S  # ", line)}
    found = checker(tmp_path, name)
    assert set(found) == mistakes, found
