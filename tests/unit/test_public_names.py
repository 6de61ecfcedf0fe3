"""The names of the package: imported when asked for, and the same for a type checker as when it runs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pingora

TREE = ast.parse(Path(pingora.__file__).read_text())


def test_each_public_name_can_be_imported():
    for name in pingora.__all__:
        assert getattr(pingora, name) is not None
    assert set(pingora.__all__) <= set(dir(pingora))


def test_the_types_of_a_sessions_parts_are_public():
    named = {"RequestHead", "ResponseHead", "HttpPeer", "ProxyError", "Timings"}
    assert named <= set(pingora.__all__)


def test_a_type_checker_finds_each_name_where_it_is_imported_from():
    block = next(node for node in TREE.body if isinstance(node, ast.If)).body
    seen = {one.name: node.module for node in block for one in node.names}
    assert seen == {name: home for home, names in pingora.HOMES.items() for name in names}
    assert sorted(seen) == sorted(pingora.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'pingora' has no attribute 'Sever'"):
        _ = pingora.Sever


def test_importing_the_package_imports_nothing_of_it():
    show = "import sys, pingora; print(*(name for name in sys.modules if name.startswith('pingora')))"
    asked = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=60, check=True)
    assert asked.stdout.split() == ["pingora"]
