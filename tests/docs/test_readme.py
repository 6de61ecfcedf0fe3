"""README.md names everything that there is, and what it shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pingora.cli.commands import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FILES = [*ROOT.glob("docs/*.md"), *(file for file in ROOT.glob("examples/*.*") if file.suffix in (".py", ".toml"))]


@pytest.mark.parametrize("file", sorted(str(file.relative_to(ROOT)) for file in FILES))
def test_each_document_and_each_example_is_in_a_table(file):
    assert re.search(rf"^\| \[[^]]+\]\({re.escape(file)}\) \| \S", README, re.MULTILINE)


def test_the_commands_are_those_of_the_program():
    assert sorted(re.findall(r"^\| `pingora (\w+)` \|", README, re.MULTILINE)) == sorted(cli.commands)


def test_the_configuration_is_one_and_check_says_what_is_shown(tmp_path):
    (tmp_path / "pingora.toml").write_text(re.search(r"^```toml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[1])
    shown = re.search(r"^\$ pingora check pingora.toml\n(.*\n)", README, re.MULTILINE)[1]
    command = [sys.executable, "-m", "pingora", "check", "pingora.toml"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (ended.stdout, ended.stderr) == (shown, "")
